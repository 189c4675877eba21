//! `weir router calibrate`: temperature, calibration error and the smallest model's certificate.

use crate::args::{CalibrateArgs, Output};
use crate::fail::Failure;
use crate::output::columns;
use crate::router_ope::{show, write};
use crate::{lab, router};
use std::path::Path;
use weir_lab::calibrate::{Promise, Report, on_log, on_table};
use weir_lab::tables;
use weir_router::Router;

pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let promise = Promise {
        alpha: args.alpha,
        delta: args.delta,
        seed: args.seed,
    };
    if let (Some(table), Some(small)) = (&args.table, &args.small) {
        let table = tables::read(table)?;
        let bar = lab::bar("certificates");
        bar.set_length(args.splits as u64);
        let results = on_table(&table, small, promise, (args.splits, &|| bar.inc(1)))?;
        bar.finish_and_clear();
        show(&results, args.output)?;
        return write(&results, args.results.as_deref());
    }
    let Some(log) = &args.log else {
        return Err(Failure::new(
            "name a log, or a table with --table and --small",
        ));
    };
    let artifact = Router::new(router::artifact(args.artifact.as_deref())?)?;
    let report = on_log(log, &artifact, promise)?;
    let written = args
        .out
        .as_deref()
        .map(|out| certify(&artifact, &report, out));
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Text => anstream::println!("{}", text(&report)),
    }
    if let (Some(out), Some(sha256)) = (&args.out, written.transpose()?) {
        anstream::eprintln!("{}: sha256 {sha256}", out.display());
    }
    Ok(())
}

/// Writes the artifact with the certificate; gives its digest.
fn certify(router: &Router, report: &Report, out: &Path) -> Result<String, Failure> {
    let Some(certificate) = report.certificate() else {
        return Err(Failure::new(format!(
            "nothing is written to {}: no certificate can be given",
            out.display()
        )));
    };
    let artifact = router.artifact().clone();
    let certified = artifact.with_manifest(|manifest| manifest.certificate = Some(certificate));
    std::fs::write(out, certified.to_bytes())
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", out.display())))?;
    Ok(certified.sha256().to_owned())
}

fn text(of: &Report) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = vec![
        row(
            "answers",
            format!("{} ({} more for the fit)", of.answers, of.fitted),
        ),
        row("wrong", percent(of.wrong)),
        row("temperature", format!("{:.3}", of.temperature)),
        row(
            "ECE, debiased",
            format!("{:.3}, {:.3} before", of.after.debiased, of.before.debiased),
        ),
        row(
            "ECE, plain",
            format!("{:.3}, {:.3} before", of.after.plain, of.before.plain),
        ),
    ];
    let table = columns(&["OF THE SMALLEST MODEL", ""], rows);
    let Promise { alpha, delta, .. } = of.promise;
    let said = match &of.guard {
        Some(guard) => format!(
            "certified: {} of requests, those with an expected score of {:.3} or more, may go to the smallest model; with \
             probability {} at most {} of its answers are wrong then (here {})",
            percent(guard.share),
            guard.threshold,
            1.0 - delta,
            percent(alpha),
            percent(guard.wrong)
        ),
        None => format!(
            "no certificate: no share of requests has at most {} wrong answers of the smallest model with probability {}; \
             allow more with --alpha, or collect more outcomes",
            percent(alpha),
            1.0 - delta
        ),
    };
    format!("{table}\n\n{said}")
}
