//! `weir memory export`, `import`, `erase`, `stats`, `show`, `doctor`, `prune` and `tune`: one task each, performed by the running
//! gateway when there is one, else on the files. What a task does is weir-memory's `upkeep`; how it is shown is
//! `memory_tables.rs`.

use crate::args::{
    DoctorArgs, EraseArgs, ExportArgs, ImportArgs, MemoryWhere, Output, PruneArgs, ShowArgs,
    StatsArgs, TuneArgs,
};
use crate::fail::Failure;
use crate::memory::{Place, place};
use crate::memory_tables as tables;
use crate::output::{cannot_write, warning};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use weir_local::{Home, OfflineError, Outcome, Reply, Request, Step, Task};
use weir_memory::upkeep::{
    BEYOND_REACH, CACHES, PrunePolicy, TuneOptions, damaged_rows, remove_damaged_rows,
};
#[cfg(not(feature = "cluster"))]
use weir_memory::upkeep::{Exported, Imported};
use weir_memory::{OpenError, ReadError};

pub(crate) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let mut target = Target::open(args.out)?;
    #[cfg(feature = "cluster")]
    let elsewhere = crate::memory_external::export(&args.external, &mut *target.lines).await;
    #[cfg(not(feature = "cluster"))]
    let elsewhere: Option<Result<Exported, Failure>> = None;
    let outcome = match elsewhere {
        Some(exported) => exported.map(Outcome::Exported),
        None => perform(&args.place, Task::Export, &mut target).await,
    };
    let exported = match outcome {
        Ok(Outcome::Exported(exported)) => exported,
        Ok(other) => return Err(unexpected(&other)),
        Err(failure) => {
            target.discard();
            return Err(failure);
        }
    };
    target.finish()?;
    let told = match args.place.output {
        Output::Json => serde_json::to_string_pretty(&exported)?,
        Output::Text => format!(
            "{} nodes ({} with a vector), {} edges, {} documents",
            exported.nodes, exported.vectors, exported.edges, exported.documents
        ),
    };
    match target.path {
        Some(_) => anstream::println!("{told}"),
        None => anstream::eprintln!("{told}"),
    }
    Ok(())
}

pub(crate) async fn import(args: &ImportArgs) -> Result<(), Failure> {
    let file = std::fs::canonicalize(&args.file);
    let file = file
        .map_err(|error| Failure::new(format!("cannot import {}: {error}", args.file.display())))?;
    let without_vectors = args.without_vectors;
    #[cfg(feature = "cluster")]
    let elsewhere = {
        let options = weir_memory::upkeep::ImportOptions { without_vectors };
        crate::memory_external::import(&args.external, (&file, options)).await
    };
    #[cfg(not(feature = "cluster"))]
    let elsewhere: Option<Result<Imported, Failure>> = None;
    let task = Task::Import {
        file,
        without_vectors,
    };
    let outcome = match elsewhere {
        Some(imported) => Outcome::Imported(imported?),
        None => run(&args.place, task).await?,
    };
    match outcome {
        Outcome::Imported(imported) => show(args.place.output, &imported, || {
            let mut text = format!(
                "{} new, {} changed, {} as before; {} edges, {} documents",
                imported.inserted,
                imported.updated,
                imported.unchanged,
                imported.edges,
                imported.documents
            );
            if imported.pending > 0 {
                text.push_str(&format!(
                    "\n{} vectors are computed in the background while a gateway serves",
                    imported.pending
                ));
            }
            text
        }),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn erase(args: EraseArgs) -> Result<(), Failure> {
    let task = Task::Erase {
        subject: args.subject,
        tenant: args.tenant,
    };
    match run(&args.place, task).await? {
        Outcome::Erased(erased) => {
            let mut receipt = serde_json::to_value(&erased)?;
            receipt["caches"] = json!(CACHES);
            receipt["notErased"] = json!(BEYOND_REACH);
            show(args.place.output, &receipt, || tables::receipt(&erased))
        }
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn stats(args: &StatsArgs) -> Result<(), Failure> {
    match run(&args.place, Task::Stats).await? {
        Outcome::Stats {
            stats,
            bytes_on_disk,
        } => {
            let mut all = serde_json::to_value(&stats)?;
            all["bytesOnDisk"] = bytes_on_disk.into();
            show(args.place.output, &all, || {
                tables::stats(&stats, bytes_on_disk)
            })
        }
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn show_node(args: &ShowArgs) -> Result<(), Failure> {
    match run(&args.place, Task::Show(args.id)).await? {
        Outcome::Shown(Some(shown)) => show(args.place.output, &shown, || tables::node(&shown)),
        Outcome::Shown(None) => Err(Failure::new(format!(
            "the memory has no node {}: `weir memory search --output json` tells ids",
            args.id
        ))),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let task = Task::Doctor {
        repair: args.repair,
    };
    let outcome = match run(&args.place, task).await {
        Ok(outcome) => outcome,
        Err(failure) => match unreadable(&args.place)? {
            Some(folder) => return damaged(&folder, args),
            None => return Err(failure),
        },
    };
    match outcome {
        Outcome::Diagnosed(diagnosis) => {
            show(args.place.output, &diagnosis, || {
                tables::diagnosis(&diagnosis)
            })?;
            match diagnosis.is_wrong() {
                true => Err(Failure::said()),
                false => Ok(()),
            }
        }
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn prune(args: &PruneArgs) -> Result<(), Failure> {
    let policy = PrunePolicy {
        degree_max: args.degree_max,
        min_weight: args.min_weight,
        max_age: args.max_age,
        trace_age: args.trace_age,
    };
    match run(&args.place, Task::Prune(policy)).await? {
        Outcome::Pruned(pruned) => show(args.place.output, &pruned, || {
            format!(
                "{} edges beyond the budget of {} a node, {} too light, {} too old; {} traces",
                pruned.beyond_budget, policy.degree_max, pruned.light, pruned.old, pruned.traces
            )
        }),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn tune(args: &TuneArgs) -> Result<(), Failure> {
    let options = TuneOptions {
        target: args.target_recall,
        questions: args.questions,
        nearest: args.nearest,
    };
    match run(&args.place, Task::Tune(options)).await? {
        Outcome::Tuned(tuned) => {
            show(args.place.output, &tuned, || tables::tuned(&tuned))?;
            match tuned.reached {
                true => Ok(()),
                false => Err(Failure::said()),
            }
        }
        other => Err(unexpected(&other)),
    }
}

fn show(
    output: Output,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(value)?),
        Output::Text => anstream::println!("{}", text()),
    }
    Ok(())
}

/// The folder of a memory that cannot be opened because of rows that cannot be read.
fn unreadable(place: &MemoryWhere) -> Result<Option<PathBuf>, Failure> {
    if place.files.is_empty() {
        return Ok(None);
    }
    let home = Home::from_env()?;
    let loaded = weir_local::load(&place.files, place.which.name.as_deref())?;
    match weir_local::open_offline(&home, &loaded) {
        Err(OfflineError::Open { folder, source, .. }) if has_damaged_row(&source) => {
            Ok(Some(folder))
        }
        // Whatever else is wrong was said already.
        _ => Ok(None),
    }
}

fn has_damaged_row(error: &OpenError) -> bool {
    let OpenError::Damaged { source, .. } = error else {
        return false;
    };
    matches!(source, ReadError::Damaged { .. })
}

fn damaged(folder: &Path, args: &DoctorArgs) -> Result<(), Failure> {
    let rows = damaged_rows(folder)?;
    let mut kept = None;
    if args.repair {
        let name = format!("damaged-{}.jsonl", jiff::Timestamp::now().as_millisecond());
        let path = folder.join(name);
        let mut file = private(&path)?;
        for row in &rows {
            writeln!(file, "{}", serde_json::to_string(row)?)?;
        }
        file.sync_all()?;
        remove_damaged_rows(folder)?;
        kept = Some(path);
    }
    let all = json!({"damagedRows": rows, "kept": kept});
    show(args.place.output, &all, || tables::damaged(&rows))?;
    match kept {
        Some(path) => {
            anstream::eprintln!(
                "{} {} rows were taken out and are kept in {}; run `weir memory doctor` again for the rest",
                warning("repaired:"),
                rows.len(),
                path.display()
            );
            Ok(())
        }
        None => Err(Failure::new(
            "these rows keep the memory from opening: restore it from an export, or run `weir memory doctor --repair` to \
             take them out and keep them in a file",
        )),
    }
}

/// Performs a task whose lines nobody wants.
async fn run(place: &MemoryWhere, task: Task) -> Result<Outcome, Failure> {
    let mut nobody = Target {
        path: None,
        lines: Box::new(io::sink()),
    };
    perform(place, task, &mut nobody).await
}

/// A bar of rows.
pub(crate) fn bar() -> ProgressBar {
    ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len}  {per_sec}  {eta} left")
            .expect("the template is valid"),
    )
}

/// Shows how far the rows are.
pub(crate) fn advance(bar: &ProgressBar, at: weir_memory::upkeep::Progress) {
    bar.set_length(at.total);
    bar.set_position(at.done);
}

/// Performs a task where the memory is open, with a bar where somebody watches.
async fn perform(wher: &MemoryWhere, task: Task, target: &mut Target) -> Result<Outcome, Failure> {
    let bar = bar();
    let mut written: io::Result<()> = Ok(());
    let mut take = |step: Step| match step {
        Step::At(at) => {
            advance(&bar, at);
            ControlFlow::Continue(())
        }
        Step::Lines(text) => {
            written = target.lines.write_all(text.as_bytes());
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        }
    };
    let outcome = match place(wher).await? {
        Place::Files(open) => tokio::task::block_in_place(|| {
            weir_local::perform(&open.memory, &open.folder, &task, &mut take).map_err(Failure::from)
        }),
        Place::Running(instance) => {
            let mut replies = instance.ask(&Request::Upkeep(task)).await?;
            loop {
                let step = match replies.next().await? {
                    Some(Reply::At(at)) => Step::At(at),
                    Some(Reply::Lines(text)) => Step::Lines(text),
                    Some(Reply::Done(outcome)) => break Ok(*outcome),
                    other => break Err(replies.unexpected(&other).into()),
                };
                if take(step).is_break() {
                    break Err(Failure::said());
                }
            }
        }
    };
    bar.finish_and_clear();
    written.map_err(|error| Failure::new(format!("write the export: {error}")))?;
    outcome
}

fn unexpected(outcome: &Outcome) -> Failure {
    let what: String = format!("{outcome:?}").chars().take(60).collect();
    Failure::new(format!(
        "the gateway did something else: is it another version of weir? ({what})"
    ))
}

/// Where an export goes. A file has another name until it is whole.
struct Target {
    path: Option<PathBuf>,
    lines: Box<dyn Write + Send>,
}

impl Target {
    fn open(path: Option<PathBuf>) -> Result<Self, Failure> {
        let lines: Box<dyn Write + Send> = match &path {
            Some(path) => Box::new(BufWriter::new(private(&unfinished(path))?)),
            None => Box::new(io::stdout()),
        };
        Ok(Self { path, lines })
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.lines.flush()?;
        if let Some(path) = &self.path {
            let unfinished = unfinished(path);
            File::open(&unfinished)?.sync_all()?;
            std::fs::rename(&unfinished, path)?;
        }
        Ok(())
    }

    fn discard(&self) {
        if let Some(path) = &self.path {
            // The failure that led here is the one to tell.
            let _ = std::fs::remove_file(unfinished(path));
        }
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A new file that its owner alone can read.
fn private(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| cannot_write(path, &error))
}
