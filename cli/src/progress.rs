//! What `weir up` shows while it starts: bars for downloads, spinners for engines; plain lines where nobody watches.

mod download;

use crate::output::{bold, dim, good, warning};
use crate::status;
use download::Download;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use weir_local::{Event, Events, Status};

/// Shows events as they come.
pub(crate) struct Progress {
    bars: MultiProgress,
    running: Mutex<HashMap<String, ProgressBar>>,
    /// By the pool or memory that each is for.
    downloads: Mutex<HashMap<String, Download>>,
    watched: bool,
}

impl Progress {
    /// The receiver of events for `weir up`.
    pub(crate) fn events() -> Events {
        let shown = Self {
            bars: MultiProgress::new(),
            running: Mutex::default(),
            downloads: Mutex::default(),
            watched: std::io::stderr().is_terminal(),
        };
        Arc::new(move |event| shown.show(event))
    }

    fn show(&self, event: Event) {
        match event {
            Event::Fetching {
                name,
                downloaded,
                total,
            } => self.fetching(name, downloaded, total),
            Event::Fetched { name } => self.fetched(&name),
            Event::EngineLoading { pool } => self.spin(&pool, "loading the model"),
            Event::EngineMeasuring { pool } => self.spin(&pool, "measuring its speed"),
            Event::EngineReady { pool, took } => {
                let line = format!("{} generates after {:.1} s", pool, took.as_secs_f64());
                self.end(&pool, &line);
            }
            Event::EngineMeasured { pool, performance } => {
                let (read, write) = (
                    performance.prefill_tokens_per_second,
                    performance.decode_tokens_per_second,
                );
                let line = format!("{pool} reads {read:.0} and writes {write:.0} tokens/s");
                self.end(&pool, &line);
            }
            Event::EngineLost { pool, reason } => {
                self.say(format!(
                    "{} {reason}",
                    warning(format!("{pool} is restarted:"))
                ));
            }
            Event::EngineBack { pool } => self.say(format!("{} {pool} serves again", good("+"))),
            Event::Serving(status) => self.serving(&status),
            Event::Reloaded(status) => {
                let pools = status.pools.len();
                self.say(format!(
                    "{} the changed stack is served: {pools} pools",
                    good("+")
                ));
            }
            Event::ReloadRefused { reason } => {
                self.say(format!("{} {reason}", warning("the change is not served:")));
            }
            Event::Warning(what) => self.say(format!("{} {what}", warning("!"))),
            Event::Draining { why } => {
                self.say(format!(
                    "{why}: requests in flight finish; once more ends them at once"
                ));
            }
            _ => {}
        }
    }

    fn fetching(&self, name: String, downloaded: u64, total: Option<u64>) {
        let mut downloads = locked(&self.downloads);
        let download = downloads.entry(name.clone()).or_default();
        let line = download.advance(downloaded, total);
        drop(downloads);
        if !self.watched {
            if let Some(line) = line {
                self.say(format!("  fetch {name}: {line}"));
            }
            return;
        }
        let bar = self.bar(key(&name), |bar| {
            bar.set_style(template(
                "  {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ));
            bar.set_message(name);
        });
        bar.set_length(total.unwrap_or(downloaded));
        bar.set_position(downloaded);
    }

    /// What was here already was not downloaded and needs no line.
    fn fetched(&self, name: &str) {
        let download = locked(&self.downloads).remove(name);
        if let Some(download) = download {
            let bytes = HumanBytes(download.bytes());
            self.end(&key(name), &format!("fetch {name}: {bytes}"));
        }
    }

    fn spin(&self, pool: &str, doing: &str) {
        if !self.watched {
            return self.say(format!("  {pool}: {doing}"));
        }
        let bar = self.bar(pool.to_owned(), |bar| {
            bar.set_style(template("{spinner} {msg} {elapsed}"));
            bar.enable_steady_tick(Duration::from_millis(120));
        });
        bar.set_message(format!("{pool}: {doing}"));
    }

    fn bar(&self, key: String, set_up: impl FnOnce(&ProgressBar)) -> ProgressBar {
        let mut running = locked(&self.running);
        let bar = running.entry(key).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(0));
            set_up(&bar);
            bar
        });
        bar.clone()
    }

    fn end(&self, key: &str, line: &str) {
        let bar = locked(&self.running).remove(key);
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        self.say(format!("{} {line}", good("+")));
    }

    fn say(&self, line: impl Display) {
        self.bars.suspend(|| anstream::eprintln!("{line}"));
    }

    fn serving(&self, status: &Status) {
        let address = &status.address;
        let first = status
            .pools
            .first()
            .map_or("auto", |pool| pool.model.as_str());
        self.bars.suspend(|| {
            anstream::println!();
            anstream::println!("{}  {address}", bold(format!("gateway {}", status.gateway)));
            anstream::println!();
            anstream::println!("{}", status::pools(&status.pools));
            if let Some(memory) = &status.memory {
                anstream::println!();
                anstream::println!("memory {}: {} nodes", memory.name, memory.nodes);
            }
            anstream::println!();
            let key = if status.keys_required {
                "-H \"Authorization: Bearer $WEIR_API_KEY\" \\\n  "
            } else {
                ""
            };
            anstream::println!(
                "curl {address}/v1/chat/completions -H 'content-type: application/json' \\\n  \
                 {key}-d '{{\"model\": \"auto\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'"
            );
            let hint = format!("weir ask \"Hello!\"    model: auto lets the router choose, \"{first}\" pins one");
            anstream::println!("{}", dim(hint));
        });
    }
}

/// The bar of a download, beside that of its pool's engine.
fn key(name: &str) -> String {
    format!("fetch {name}")
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates of this file are valid")
}
