//! `weir model fetch`: a model on the disk, with progress; the init container of every pool in a cluster.
//!
//! Downloading and checking are `weir-models`; here are the options, the progress and the facts file.

use crate::args::{FetchArgs, ModelCommand};
use crate::fail::Failure;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_gateway::Stop;
use weir_local::Home;
use weir_models::gguf::{GgufError, GgufFacts};
use weir_models::{Access, Fetcher, Progress, Source};

/// How often progress is told where nobody watches.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Folder beside the destination that keeps what was downloaded, so that a restart goes on and fetches nothing twice.
const KEPT: &str = ".weir";

pub(crate) async fn run(command: ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Fetch(args) => {
            // The first process of a container, as this is one, does not hear a signal that it does not ask for: its pod would
            // only go away when the time to do so is over.
            let stop = Stop::on_signals()?;
            let done = stop.drain.run_until_cancelled(fetch(args)).await;
            let kept = "told to end: what was downloaded is kept";
            done.unwrap_or_else(|| Err(Failure::new(kept)))
        }
    }
}

async fn fetch(args: FetchArgs) -> Result<(), Failure> {
    let source = Source::parse(&args.source, &std::env::current_dir()?)?;
    let cache = match &args.to {
        Some(to) => to.parent().unwrap_or(Path::new(".")).join(KEPT),
        None => Home::from_env()?.models(),
    };
    let fetcher = Fetcher::new(cache, Access::from_env())?;
    let shown = Shown::start();
    #[cfg(feature = "cluster")]
    let shown = shown.told_to(&args.report);
    let path = if args.files.is_empty() {
        fetch_file(&fetcher, &source, &args, &shown).await?
    } else {
        fetch_folder(&fetcher, &source, &args, &shown).await?
    };
    shown.end();
    if let Some(to) = &args.facts {
        let facts = match GgufFacts::read(&path) {
            Ok(facts) => facts,
            Err(error) => {
                if args.sha256.is_none() && is_another_file(&error) {
                    give_up(&fetcher, &source, args.to.as_deref()).await;
                }
                return Err(error.into());
            }
        };
        let sha256 = fetcher.sha256(&path).await?;
        write_facts(&facts, &sha256, to)?;
    }
    anstream::println!("{}", path.display());
    Ok(())
}

async fn fetch_file(
    fetcher: &Fetcher,
    source: &Source,
    args: &FetchArgs,
    shown: &Shown,
) -> Result<PathBuf, Failure> {
    let (sha256, progress) = (args.sha256.as_deref(), |at| shown.progress(at));
    let Some(to) = &args.to else {
        return Ok(fetcher.fetch(source, sha256, &progress).await?);
    };
    fetcher.fetch_to(source, sha256, to, &progress).await?;
    Ok(to.clone())
}

async fn fetch_folder(
    fetcher: &Fetcher,
    source: &Source,
    args: &FetchArgs,
    shown: &Shown,
) -> Result<PathBuf, Failure> {
    let names: Vec<&str> = args.files.iter().map(String::as_str).collect();
    let progress = |at| shown.progress(at);
    let Some(to) = &args.to else {
        return Ok(fetcher.fetch_dir(source, &names, &progress).await?);
    };
    fetcher.fetch_dir_to(source, &names, to, &progress).await?;
    Ok(to.clone())
}

/// Whether what came is not the model, such as a page that says why it is not to be had, or half of it.
fn is_another_file(error: &GgufError) -> bool {
    matches!(
        error,
        GgufError::NotGguf { .. } | GgufError::Truncated { .. } | GgufError::Malformed { .. }
    )
}

/// Removes a download that is of no use. Kept, it would be found by every further start, also when the source is right again.
/// A file of the user's own stays, which `to` may be another path of.
async fn give_up(fetcher: &Fetcher, source: &Source, to: Option<&Path>) {
    if matches!(source, Source::File(_)) {
        return;
    }
    fetcher.forget(source).await;
    if let Some(to) = to {
        let _ = tokio::fs::remove_file(to).await;
    }
}

/// Everything a pool's status says about its model.
fn write_facts(facts: &GgufFacts, sha256: &str, to: &Path) -> Result<(), Failure> {
    let facts = json!({
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "contextTokens": facts.context_tokens,
        "quantization": facts.quantization,
        "bytes": facts.bytes,
        "sha256": sha256,
    });
    std::fs::write(to, facts.to_string())
        .map_err(|error| Failure::new(format!("write facts to {}: {error}", to.display())))
}

/// A bar on a terminal, a line every few seconds elsewhere; and in a cluster the operator is told.
struct Shown {
    bar: Option<ProgressBar>,
    started: Instant,
    told: Mutex<Option<Instant>>,
    #[cfg(feature = "cluster")]
    report: Option<crate::model_report::Report>,
}

impl Shown {
    fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "  {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(style).expect("the template is valid");
            ProgressBar::new(0).with_style(style)
        });
        Self {
            bar,
            started: Instant::now(),
            told: Mutex::new(None),
            #[cfg(feature = "cluster")]
            report: None,
        }
    }

    #[cfg(feature = "cluster")]
    fn told_to(self, operator: &crate::args::ReportArgs) -> Self {
        Self {
            report: crate::model_report::Report::start(operator),
            ..self
        }
    }

    fn progress(&self, at: Progress) {
        #[cfg(feature = "cluster")]
        if let Some(report) = &self.report {
            report.progress(at);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(at.total.unwrap_or(at.downloaded));
            bar.set_position(at.downloaded);
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            anstream::eprintln!("{}", line(at, self.started.elapsed()));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(at: Progress, spent: Duration) -> String {
    let downloaded = HumanBytes(at.downloaded);
    let Some(total) = at.total.filter(|total| *total > 0) else {
        return format!("downloaded {downloaded}");
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of a file needs no more digits"
    )]
    let share = at.downloaded as f64 / total as f64;
    let left = (share > 0.0).then(|| spent.mul_f64((1.0 - share).max(0.0) / share));
    let left = left.map_or_else(String::new, |left| {
        format!(", {} left", HumanDuration(left))
    });
    format!(
        "downloaded {downloaded} of {} ({:.0} %){left}",
        HumanBytes(total),
        share * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_how_much_is_there_and_how_long_the_rest_takes() {
        let at = |downloaded, total| Progress { downloaded, total };
        let spent = Duration::from_secs(30);
        assert_eq!(
            line(at(25 << 20, Some(100 << 20)), spent),
            "downloaded 25.00 MiB of 100.00 MiB (25 %), 2 minutes left"
        );
        assert_eq!(line(at(1 << 10, None), spent), "downloaded 1.00 KiB");
        assert_eq!(
            line(at(0, Some(1 << 20)), spent),
            "downloaded 0 B of 1.00 MiB (0 %)"
        );
    }
}
