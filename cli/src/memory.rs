//! `weir memory`: through the running gateway when there is one, else on the files themselves. Sending passages to a gateway
//! elsewhere is `memory_send.rs`, upkeep `memory_upkeep.rs`, owning a memory in a cluster `memory_serve.rs`, training its attention
//! `memory_train.rs`.

use crate::args::{IngestArgs, MemoryCommand, MemoryWhere, Output, SearchArgs};
use crate::fail::Failure;
use crate::memory_send::{self, Target};
use crate::memory_svg;
use crate::memory_upkeep;
use crate::output::{columns, dim, warning, write_file};
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::ControlFlow;
use std::path::PathBuf;
use weir_local::{
    ControlError, Found, Home, IngestLine, IngestOptions, IngestSummary, Instance, OfflineMemory,
    Picture, Reply, Request, SearchOptions, open_offline,
};

/// Bad files that are named; the rest is counted.
const BAD_SHOWN: usize = 10;

pub(crate) async fn run(command: MemoryCommand) -> Result<(), Failure> {
    match command {
        MemoryCommand::Ingest(args) => ingest(args).await,
        MemoryCommand::Search(args) => search(args).await,
        MemoryCommand::Export(args) => memory_upkeep::export(args).await,
        MemoryCommand::Import(args) => memory_upkeep::import(&args).await,
        MemoryCommand::Erase(args) => memory_upkeep::erase(args).await,
        MemoryCommand::Stats(args) => memory_upkeep::stats(&args).await,
        MemoryCommand::Show(args) => memory_upkeep::show_node(&args).await,
        MemoryCommand::Doctor(args) => memory_upkeep::doctor(&args).await,
        MemoryCommand::Prune(args) => memory_upkeep::prune(&args).await,
        MemoryCommand::Tune(args) => memory_upkeep::tune(&args).await,
        MemoryCommand::Migrate(args) => crate::memory_migrate::run(args).await,
        MemoryCommand::Train(args) => crate::memory_train::run(args).await,
        #[cfg(feature = "cluster")]
        MemoryCommand::Serve(args) => crate::memory_serve::run(*args).await,
    }
}

/// Who has the memory open.
pub(crate) enum Place {
    Running(Instance),
    Files(OfflineMemory),
}

/// The running gateway that serves this memory, else the memory itself.
pub(crate) async fn place(place: &MemoryWhere) -> Result<Place, Failure> {
    let home = Home::from_env()?;
    if place.files.is_empty() {
        return match Instance::find(&home, place.which.name.as_deref()).await {
            Ok(instance) => Ok(Place::Running(instance)),
            Err(error @ ControlError::Which(_)) => Err(error.into()),
            Err(error) => Err(Failure::new(format!(
                "{error}; or name the stack with -f FILE to use its memory directly"
            ))),
        };
    }
    let loaded = weir_local::load(&place.files, place.which.name.as_deref())?;
    if let Some(instance) = Instance::at(&home.gateway(loaded.name())).await {
        return Ok(Place::Running(instance));
    }
    Ok(Place::Files(open_offline(&home, &loaded)?))
}

async fn ingest(args: IngestArgs) -> Result<(), Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in &args.paths {
        let found = std::fs::canonicalize(path);
        paths.push(
            found.map_err(|error| {
                Failure::new(format!("cannot ingest {}: {error}", path.display()))
            })?,
        );
    }
    let options = IngestOptions {
        paths,
        tenant: args.tenant,
        domain: args.domain,
        mirror: args.mirror,
    };
    if let Some(gateway) = &args.gateway {
        let target = Target::new(gateway, args.api_key)?;
        return memory_send::run(&target, &options, args.place.output).await;
    }
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}  {eta} left")
            .expect("the template is valid"),
    );
    let show = |at: IngestLine| {
        bar.set_length(at.files as u64);
        bar.set_position(at.files_done as u64);
        bar.set_message(format!(
            "{} passages  {}",
            at.passages,
            rate(at.passages, &bar)
        ));
    };
    let summary = match place(&args.place).await? {
        Place::Running(instance) => ingest_running(&instance, options, show).await,
        Place::Files(open) => {
            let work = tokio::task::block_in_place(|| {
                weir_local::ingest(&open.memory, &options, &mut |at| {
                    show(at);
                    ControlFlow::Continue(())
                })
            });
            work.map_err(Failure::from)
        }
    };
    let took = bar.elapsed();
    bar.finish_and_clear();
    let summary = summary?;
    report(&summary, took.as_secs_f64(), args.place.output)?;
    match summary.left {
        0 => Ok(()),
        left => Err(Failure::new(format!(
            "{left} files were not read, since the gateway was told to end: start it and ingest again, what was read is kept"
        ))),
    }
}

fn rate(passages: usize, bar: &ProgressBar) -> String {
    let seconds = bar.elapsed().as_secs_f64();
    if seconds < 0.5 {
        String::new()
    } else {
        format!("{:.0}/s", passages as f64 / seconds)
    }
}

async fn ingest_running(
    instance: &Instance,
    options: IngestOptions,
    show: impl Fn(IngestLine),
) -> Result<IngestSummary, Failure> {
    let mut replies = instance.ask(&Request::Ingest(options)).await?;
    loop {
        match replies.next().await? {
            Some(Reply::Progress(at)) => show(at),
            Some(Reply::Ingested(summary)) => return Ok(summary),
            other => return Err(replies.unexpected(&other).into()),
        }
    }
}

pub(crate) fn report(summary: &IngestSummary, seconds: f64, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        let mut summary = serde_json::to_value(summary)?;
        summary["seconds"] = seconds.into();
        anstream::println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print(summary, seconds);
    }
    Ok(())
}

fn print(summary: &IngestSummary, seconds: f64) {
    let IngestSummary {
        files,
        passages,
        inserted,
        updated,
        unchanged,
        removed,
        edges,
        ..
    } = summary;
    anstream::println!(
        "{files} files, {passages} passages in {seconds:.1} s: {inserted} new, {updated} changed, {unchanged} as before, \
         {removed} removed; {edges} edges"
    );
    if summary.gone > 0 {
        anstream::println!(
            "{} documents whose files are gone were removed",
            summary.gone
        );
    }
    if summary.vectors_pending > 0 {
        anstream::println!(
            "{} vectors are computed in the background while a gateway serves; until then words find the passages",
            summary.vectors_pending
        );
    }
    for (path, reason) in summary.bad.iter().take(BAD_SHOWN) {
        anstream::eprintln!("{} {}: {reason}", warning("skipped:"), path.display());
    }
    if summary.bad.len() > BAD_SHOWN {
        let more = summary.bad.len() - BAD_SHOWN;
        anstream::eprintln!("{} {more} more files", warning("skipped:"));
    }
}

async fn search(args: SearchArgs) -> Result<(), Failure> {
    let options = SearchOptions {
        text: args.text,
        tenant: args.tenant,
        domains: args.domains,
        types: args.types,
        count: args.count,
    };
    let found = match &args.svg {
        Some(file) => {
            let picture = picture(&args.place, &options).await?;
            let drawn = memory_svg::draw(&options.text, &picture);
            write_file(file, &drawn)?;
            picture.nodes.into_iter().take(picture.listed).collect()
        }
        None => find(&args.place, options).await?,
    };
    match args.place.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&found)?),
        Output::Text if found.is_empty() => {
            anstream::println!("nothing was found; `weir memory ingest PATH` reads documents in");
        }
        Output::Text => {
            anstream::println!("{}", table(&found));
            if args.why {
                found.iter().enumerate().for_each(|(index, passage)| {
                    anstream::println!("{}", why(index + 1, passage));
                });
            }
        }
    }
    Ok(())
}

async fn find(wher: &MemoryWhere, options: SearchOptions) -> Result<Vec<Found>, Failure> {
    let instance = match place(wher).await? {
        Place::Running(instance) => instance,
        Place::Files(open) => return Ok(open.search(&options).await?),
    };
    let mut replies = instance.ask(&Request::Search(options)).await?;
    match replies.next().await? {
        Some(Reply::Found(found)) => Ok(found),
        other => Err(replies.unexpected(&other).into()),
    }
}

async fn picture(wher: &MemoryWhere, options: &SearchOptions) -> Result<Picture, Failure> {
    let instance = match place(wher).await? {
        Place::Running(instance) => instance,
        Place::Files(open) => return Ok(open.picture(options).await?),
    };
    let mut replies = instance.ask(&Request::Picture(options.clone())).await?;
    match replies.next().await? {
        Some(Reply::Pictured(picture)) => Ok(picture),
        other => Err(replies.unexpected(&other).into()),
    }
}

fn table(found: &[Found]) -> String {
    let rows = found.iter().enumerate().map(|(index, passage)| {
        let text: Vec<&str> = passage.text.split_whitespace().collect();
        let text: String = text.join(" ").chars().take(80).collect();
        vec![
            (index + 1).to_string(),
            format!("{:.3}", passage.score),
            passage
                .cosine
                .map_or_else(|| "-".into(), |cosine| format!("{cosine:.2}")),
            passage
                .vector_rank
                .map_or_else(|| "-".into(), |rank| rank.to_string()),
            passage.depth.to_string(),
            passage
                .title
                .clone()
                .or_else(|| passage.uri.clone())
                .unwrap_or_else(|| "-".into()),
            text,
        ]
    });
    columns(
        &["#", "SCORE", "COSINE", "BY VECTOR", "HOPS", "TITLE", "TEXT"],
        rows.collect(),
    )
}

/// How attention came to a passage, in lines.
fn why(number: usize, passage: &Found) -> String {
    let named = |title: Option<&str>, id: &str| title.unwrap_or(id).to_owned();
    let [first, ..] = passage.way.as_slice() else {
        return format!("{number:>3}  found by the search itself");
    };
    let start = named(first.title.as_deref(), &first.from);
    let mut lines = vec![format!(
        "{number:>3}  from {start:?}, which the search found"
    )];
    let next = passage.way.iter().skip(1);
    let next = next.map(|step| named(step.title.as_deref(), &step.from));
    let title = passage.title.as_deref().or(passage.uri.as_deref());
    let ends = next.chain([named(title, &passage.id)]);
    for (step, end) in passage.way.iter().zip(ends) {
        let arrow = match step.along {
            true => format!("--{}-->", step.rel),
            false => format!("<--{}--", step.rel),
        };
        lines.push(format!("     {arrow} {end:?}"));
        if let Some(sentence) = &step.evidence {
            let sentence: Vec<&str> = sentence.split_whitespace().collect();
            lines.push(dim(format!("         {}", sentence.join(" "))));
        }
    }
    lines.join("\n")
}
