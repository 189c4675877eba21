//! How far a download is, in words for where nobody watches a bar.
//!
//! Only counts and words; who prints them, and when, is `progress.rs`.

use indicatif::HumanBytes;

/// Bytes between two lines of a file whose size is not known.
const STEP: u64 = 100 << 20;

/// One download: the file of a model, or the files of an embedder one after the other.
#[derive(Debug, Default)]
pub(super) struct Download {
    /// Bytes of the files before this one.
    before: u64,
    /// Bytes of this file; nothing before it begins.
    downloaded: Option<u64>,
    total: Option<u64>,
    /// Steps of this file that were told.
    told: u64,
}

impl Download {
    /// Goes on to so many bytes of a file: the line that is due, which is one when a file begins and one with each tenth of it.
    /// The end is for [`Download::bytes`] to tell.
    pub(super) fn advance(&mut self, downloaded: u64, total: Option<u64>) -> Option<String> {
        let step = total.map_or(STEP, |total| total.div_ceil(10)).max(1);
        let steps = downloaded / step;
        if self.begins(downloaded, total) {
            self.before += self.whole();
            (self.downloaded, self.total, self.told) = (Some(downloaded), total, steps);
            return Some(match (total, downloaded) {
                (Some(total), 0) => HumanBytes(total).to_string(),
                (Some(_), _) => format!("{}, goes on", share(downloaded, total)),
                (None, _) => format!("{}, of unknown size", HumanBytes(downloaded)),
            });
        }
        self.downloaded = Some(downloaded);
        if steps <= self.told || total == Some(downloaded) {
            return None;
        }
        self.told = steps;
        Some(share(downloaded, total))
    }

    /// Bytes of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.before + self.downloaded.unwrap_or(0)
    }

    /// Whether this is another file, or the same from further in front.
    fn begins(&self, downloaded: u64, total: Option<u64>) -> bool {
        self.downloaded
            .is_none_or(|last| downloaded < last || total != self.total)
    }

    /// Bytes of the file that another follows: none where it was given up in the middle.
    fn whole(&self) -> u64 {
        let is_whole = self.total.is_none() || self.total == self.downloaded;
        self.downloaded.filter(|_| is_whole).unwrap_or(0)
    }
}

fn share(downloaded: u64, total: Option<u64>) -> String {
    let bytes = HumanBytes(downloaded);
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = u128::from(downloaded) * 100 / u128::from(total);
            format!("{bytes} of {} ({percent} %)", HumanBytes(total))
        }
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The lines of a download that reaches these mebibytes one after the other.
    fn lines(download: &mut Download, reached: &[u64], total: Option<u64>) -> Vec<String> {
        let total = total.map(|total| total * MIB);
        let reached = reached.iter();
        let lines = reached.filter_map(|mib| download.advance(mib * MIB, total));
        lines.collect()
    }

    #[test]
    fn a_line_is_due_at_the_beginning_and_with_each_tenth_but_the_last() {
        let mut download = Download::default();
        let all: Vec<u64> = (0..=200).collect();
        let lines = lines(&mut download, &all, Some(200));
        assert_eq!(lines.len(), 10, "{lines:#?}");
        assert_eq!(lines[0], "200.00 MiB");
        assert_eq!(lines[1], "20.00 MiB of 200.00 MiB (10 %)");
        assert_eq!(lines[9], "180.00 MiB of 200.00 MiB (90 %)");
        assert_eq!(download.bytes(), 200 * MIB);
    }

    #[test]
    fn tenths_that_a_big_piece_skips_are_not_told_one_by_one() {
        let told = lines(&mut Download::default(), &[0, 35, 38, 41, 100], Some(100));
        assert_eq!(
            told,
            [
                "100.00 MiB",
                "35.00 MiB of 100.00 MiB (35 %)",
                "41.00 MiB of 100.00 MiB (41 %)"
            ]
        );
    }

    #[test]
    fn what_is_taken_up_again_says_where_and_counts_once() {
        let mut download = Download::default();
        let told = lines(&mut download, &[50, 55, 60], Some(100));
        assert_eq!(
            told,
            [
                "50.00 MiB of 100.00 MiB (50 %), goes on",
                "60.00 MiB of 100.00 MiB (60 %)"
            ]
        );
        // The server has another file by now.
        assert_eq!(
            lines(&mut download, &[0, 5, 100], Some(100)),
            ["100.00 MiB"]
        );
        assert_eq!(download.bytes(), 100 * MIB);
    }

    #[test]
    fn the_files_of_a_folder_are_counted_together() {
        let mut download = Download::default();
        assert_eq!(lines(&mut download, &[0, 90], Some(90)), ["90.00 MiB"]);
        assert_eq!(lines(&mut download, &[0, 2], Some(2)), ["2.00 MiB"]);
        assert_eq!(download.bytes(), 92 * MIB);
    }

    #[test]
    fn a_file_of_unknown_size_has_a_line_every_hundred_mebibytes() {
        let told = lines(&mut Download::default(), &[0, 60, 120, 199, 200], None);
        assert_eq!(told, ["0 B, of unknown size", "120.00 MiB", "200.00 MiB"]);
    }
}
