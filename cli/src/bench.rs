//! `weir bench matrix`: which models are measured and how their engines start; the measuring is weir-lab's.

use crate::args::{BenchCommand, MatrixArgs, Output};
use crate::fail::Failure;
use crate::lab::{bar, show};
use crate::output::write_file;
use crate::router_svg::draw;
use crate::up::shim;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use weir_gateway::Stop;
use weir_lab::matrix::{Launch, MatrixOptions, Model, Point, Recalled, Template, matrix, recalled};
use weir_lab::questions::Question;
use weir_local::{Home, locate_engine};
use weir_models::gguf::GgufFacts;
use weir_reconcile::{EngineArgs, llama_cpp_args};

pub(crate) async fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Matrix(args) => run_matrix(args).await,
    }
}

async fn run_matrix(args: MatrixArgs) -> Result<(), Failure> {
    let models = args.models.iter().map(|file| model(file));
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let program = locate_engine(args.llama_server.as_deref(), &Home::from_env()?)?;
    let stop = Stop::on_signals()?;
    let questions = weir_lab::questions::read(None)?;
    let options = MatrixOptions {
        recalled: found(args.docs.as_deref(), &questions, args.questions)?,
        models,
        launch: Launch {
            program: [shim()?, vec!["--".into(), program.into_os_string()]].concat(),
            arguments,
        },
        threads: threads(args.threads),
        contexts: args.context,
        repeats: args.repeats as usize,
        questions,
        questions_max: args.questions,
        patience: Duration::from_secs(args.patience),
        stop: stop.drain.clone(),
    };
    let bar = bar("measured");
    let mut progress = |what: &str, done, total| show(&bar, what, done, total);
    let measured = matrix(&options, &mut progress).await;
    bar.finish_and_clear();
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let results = measured.results(&args.name, &command);
    let page = measured.markdown(&results);
    if let Some(folder) = &args.results {
        results.write_with(folder, &page)?;
        let axes = ("size of the file, GiB", "tokens generated a second");
        let drawing = draw("Speed by size of the model", axes, &measured.curves());
        write_file(&folder.join(format!("{}.svg", args.name)), &drawing)?;
    }
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&results)?),
        Output::Text => anstream::print!("{page}"),
    }
    match measured.points().is_empty() {
        true => Err(Failure::new(
            "nothing could be measured; the notes above say why",
        )),
        false => Ok(()),
    }
}

/// Questions with their passages, where there are documents.
fn found(
    documents: Option<&Path>,
    questions: &[Question],
    questions_max: usize,
) -> Result<Vec<Recalled>, Failure> {
    let Some(documents) = documents else {
        return Ok(Vec::new());
    };
    let found = recalled(documents.to_owned(), questions, questions_max);
    found.map_err(|error| {
        let why = weir_plan::chain(&error);
        Failure::new(format!("--docs {}: {why}", documents.display()))
    })
}

fn model(file: &Path) -> Result<Model, Failure> {
    let facts = GgufFacts::read(file)?;
    let random = |name: &String| name.to_lowercase().contains("random");
    let name = file.file_stem().unwrap_or(file.as_os_str());
    Ok(Model {
        name: name.to_string_lossy().into_owned(),
        file: file.to_owned(),
        bytes: facts.bytes,
        quantization: facts.quantization,
        real: !facts.name.as_ref().is_some_and(random),
    })
}

/// What was asked for, each once; one and all processors where nothing was.
fn threads(asked: Vec<u32>) -> Vec<u32> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = match asked.is_empty() {
        true => vec![1, u32::try_from(processors).unwrap_or(1)],
        false => asked,
    };
    threads.sort_unstable();
    threads.dedup();
    threads
}

fn arguments(point: Point<'_>, port: u16) -> Vec<OsString> {
    let template = match point.template {
        Template::Own => Vec::new(),
        Template::Minimal => vec!["--chat-template".to_owned(), "chatml".to_owned()],
    };
    let rest = llama_cpp_args(&EngineArgs {
        model: &point.model.name,
        host: &Ipv4Addr::LOCALHOST.to_string(),
        port,
        threads: point.threads,
        embeds: false,
        context_tokens: point.context_tokens,
        slots: 1,
        extra_args: &template,
    });
    let file = ["-m".into(), point.model.file.clone().into()];
    file.into_iter()
        .chain(rest.into_iter().map(OsString::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_threads_is_measured_once() {
        assert_eq!(threads(vec![4, 2, 4]), [2, 4]);
        assert_eq!(threads(Vec::new())[0], 1);
    }
}
