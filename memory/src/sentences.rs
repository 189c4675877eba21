//! Sentences: where a text may be cut.
//!
//! Used to fit passages at ingest and blocks in a prompt. Language models are not involved:
//! punctuation, paragraph ends and, in lists and code, line ends are enough.

/// Abbreviations that end with a period in the middle of a sentence.
const ABBREVIATIONS: &[&str] = &[
    "e.g.", "i.e.", "cf.", "vs.", "etc.", "Dr.", "Mr.", "Mrs.", "No.",
];

/// Byte offsets after which `text` may be cut, ascending; the last is the length of the trimmed
/// text.
///
/// A cut keeps the punctuation and leaves the white space that follows to the next piece.
pub(crate) fn boundaries(text: &str) -> Vec<usize> {
    let end = text.trim_end().len();
    let mut cuts = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = at + c.len_utf8();
        let next = chars.peek().map(|(_, next)| *next);
        let cut = match c {
            '。' | '！' | '？' => true,
            '\n' => false,
            _ if next == Some('\n') => true,
            '.' | '!' | '?' => next == Some(' ') && ends_sentence(text, after),
            _ => false,
        };
        if cut && after < end {
            cuts.push(after);
        }
    }
    if end > 0 {
        cuts.push(end);
    }
    cuts
}

/// The sentence of `text` that the byte `at` stands in; `cuts` are the text's [`boundaries`]. Of one of more than `chars_max`
/// characters the words around that place.
pub(crate) fn around<'t>(text: &'t str, cuts: &[usize], at: usize, chars_max: usize) -> &'t str {
    let next = cuts.partition_point(|cut| *cut <= at);
    let start = next.checked_sub(1).map_or(0, |before| cuts[before]);
    let end = cuts.get(next).copied().unwrap_or(text.len());
    let sentence = text[start..end].trim();
    if sentence.chars().nth(chars_max).is_none() {
        return sentence;
    }
    // A third of the room is for what leads to the place.
    let at = at.clamp(start, end);
    let mut before = text[start..at].char_indices().rev();
    let first = before
        .nth(chars_max / 3)
        .map_or(start, |(from, _)| start + from);
    let mut after = text[first..end].char_indices();
    let last = after.nth(chars_max).map_or(end, |(to, _)| first + to);
    // Neither end cuts a word in two, unless there is no other place.
    let lead = (first > start)
        .then(|| text[first..at].find(char::is_whitespace))
        .flatten();
    let tail = (last < end)
        .then(|| text[at..last].rfind(char::is_whitespace))
        .flatten();
    let (first, last) = (
        lead.map_or(first, |lead| first + lead),
        tail.map_or(last, |tail| at + tail),
    );
    text[first..last].trim()
}

/// Whether the period before `after` ends a sentence: the next word does not start small and the
/// last is no abbreviation.
fn ends_sentence(text: &str, after: usize) -> bool {
    let begins = text[after..].trim_start().chars().next();
    let last = text[..after]
        .rsplit([' ', '\n', '('])
        .next()
        .unwrap_or_default();
    begins.is_some_and(|c| !c.is_lowercase()) && !ABBREVIATIONS.contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        let mut start = 0;
        let cuts = boundaries(text).into_iter();
        cuts.map(|cut| text[std::mem::replace(&mut start, cut)..cut].trim())
            .collect()
    }

    #[test]
    fn sentences_end_at_punctuation_before_a_new_start() {
        let text = "Use os.path.join, e.g. Here. It joins two paths! see below? Yes";
        assert_eq!(
            pieces(text),
            [
                "Use os.path.join, e.g. Here.",
                "It joins two paths! see below?",
                "Yes"
            ]
        );
    }

    #[test]
    fn lines_end_pieces_in_code_and_lists() {
        assert_eq!(
            pieces("def f():\n    return 1\n\nDone."),
            ["def f():", "return 1", "Done."]
        );
    }

    #[test]
    fn full_width_punctuation_needs_no_space() {
        assert_eq!(pieces("東京です。京都です。"), ["東京です。", "京都です。"]);
    }

    #[test]
    fn the_sentence_around_a_place_is_short_and_cuts_no_word() {
        let text = "One. Two is here! Three.";
        let at = |place: &str| around(text, &boundaries(text), text.find(place).unwrap(), 40);
        assert_eq!(
            (at("One"), at("is"), at("Three")),
            ("One.", "Two is here!", "Three.")
        );

        let long = format!("{}needle{}", "é word ".repeat(50), " tail".repeat(50));
        let place = long.find("needle").unwrap();
        let found = around(&long, &boundaries(&long), place, 40);
        assert_eq!(found, "word é word needle tail tail tail");
        let run = "é".repeat(1000);
        assert_eq!(around(&run, &boundaries(&run), 400, 40).chars().count(), 40);
        assert_eq!(around("", &[], 0, 40), "");
    }

    #[test]
    fn white_space_has_no_pieces() {
        assert!(pieces(" \n ").is_empty());
    }
}
