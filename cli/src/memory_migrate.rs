//! `weir memory migrate`: from the embedding that a memory has to the one that the stack names. What is done is weir-local's
//! `moving.rs`; this file chooses among its steps and tells what came of it.

use crate::args::{MemoryMigrateArgs, Output};
use crate::fail::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use weir_local::{Embeddings, Home, Instance, open_moving};

pub(crate) async fn run(args: MemoryMigrateArgs) -> Result<(), Failure> {
    let home = Home::from_env()?;
    let loaded = weir_local::load(&args.files, args.which.name.as_deref())?;
    if Instance::at(&home.gateway(loaded.name())).await.is_some() {
        return Err(Failure::new(
            "a gateway is using this memory, and answers would be compared with vectors of two models: end it with \
             `weir down`, migrate, and start it again",
        ));
    }
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}  {per_sec}  {eta} left")
            .expect("the template is valid"),
    );
    bar.set_message("embedder");
    let fetching = |here: u64, of: Option<u64>| {
        bar.set_length(of.unwrap_or(here));
        bar.set_position(here);
    };
    let moving = open_moving(&home, &loaded, &fetching).await?;
    bar.reset();
    bar.set_message("vectors");
    let (done, embeddings) = if args.status {
        ("nothing", moving.embeddings()?)
    } else if args.undo {
        ("undone", moving.undo()?)
    } else if args.forget {
        ("forgotten", moving.forget()?)
    } else {
        let progress = |at: weir_memory::upkeep::Progress| {
            bar.set_length(at.total);
            bar.set_position(at.done);
        };
        ("moved", moving.run(args.now, &progress).await?)
    };
    bar.finish_and_clear();
    match args.output {
        Output::Json => {
            let mut all = serde_json::to_value(&embeddings)?;
            all["done"] = done.into();
            anstream::println!("{}", serde_json::to_string_pretty(&all)?);
        }
        Output::Text => anstream::println!("{}", told(done, &embeddings)),
    }
    Ok(())
}

fn told(done: &str, embeddings: &Embeddings) -> String {
    let in_use = &embeddings.in_use;
    let other = embeddings.other.as_ref().map(|other| {
        let what = match other.was_in_use {
            true => "kept from before",
            false => "made for a move",
        };
        let (vectors, pending) = (other.vectors, other.pending);
        format!(
            "{}: {vectors} vectors {what}, {pending} to be made",
            other.embedding
        )
    });
    let other = other.unwrap_or_else(|| "no vectors of another embedding are kept".to_owned());
    let next = match done {
        "moved" => {
            "\n`weir up` serves it. `weir memory migrate --undo` goes back, `--forget` lets go of the former vectors."
        }
        "undone" => {
            "\nWrite this embedding into the MemoryStore again before `weir up`; nodes written since the move wait for vectors."
        }
        _ => "",
    };
    format!("in use: {in_use}\n{other}{next}")
}
