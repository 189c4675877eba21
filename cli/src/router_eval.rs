//! `weir router eval` and `weir router report`: the router beside every other way to decide.

use crate::args::{EvalArgs, Output, RouterReportArgs};
use crate::fail::Failure;
use crate::lab;
use crate::output::{cannot_write, write_file};
use crate::router_svg::draw;
use std::path::Path;
use weir_lab::evaluation::report::{Evaluated, Figure};
use weir_lab::evaluation::{EvalCommand, eval};
use weir_lab::vectors::VectorSource;

pub(crate) fn run(args: EvalArgs) -> Result<(), Failure> {
    let command = EvalCommand {
        log: args.log,
        tables: args.table,
        seeds: args.seeds,
        folds: args.folds.into(),
        vectors: args
            .embedder
            .zip(args.cache)
            .map(|(embedder, cache)| VectorSource { embedder, cache }),
    };
    let bar = lab::bar("done");
    let evaluated = eval(&command, &mut |done, of, what| {
        lab::show(&bar, what, done, of);
    });
    bar.finish_and_clear();
    let evaluated = evaluated?;
    if let Some(folder) = &args.results {
        put(&folder.join("router-eval.json"), &evaluated.json())?;
        pages(&evaluated, folder, "router-eval")?;
    }
    match args.output {
        Output::Json => anstream::print!("{}", evaluated.json()),
        Output::Text => anstream::print!("{}", evaluated.markdown()),
    }
    Ok(())
}

pub(crate) fn report(args: &RouterReportArgs) -> Result<(), Failure> {
    let evaluated = Evaluated::read(&args.file)?;
    let folder = args.file.parent().unwrap_or(Path::new("."));
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
    pages(&evaluated, folder, &name)?;
    if let Some(page) = &args.html {
        put(page, &evaluated.html(&drawing))?;
    }
    Ok(())
}

/// The Markdown and its drawings.
fn pages(evaluated: &Evaluated, folder: &Path, name: &str) -> Result<(), Failure> {
    put(&folder.join(format!("{name}.md")), &evaluated.markdown())?;
    for figure in &evaluated.figures {
        let plain = figure
            .name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !plain {
            let name = &figure.name;
            return Err(Failure::new(format!(
                "{name}: this is no name for a drawing"
            )));
        }
        put(
            &folder.join(format!("{}.svg", figure.name)),
            &drawing(figure),
        )?;
    }
    Ok(())
}

fn drawing(figure: &Figure) -> String {
    let axes = (figure.across.as_str(), figure.up.as_str());
    draw(&figure.title, axes, &figure.curves)
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(path, &error))?;
    }
    write_file(path, text)
}
