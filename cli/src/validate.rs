//! `weir validate`: every finding of some stack files, one a line.

use crate::args::{Output, ValidateArgs};
use crate::fail::Failure;
use crate::output::{good, warning};
use weir_crds::stack::SourceFile;

pub(crate) fn run(args: &ValidateArgs) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        files.push(SourceFile::read(path)?);
    }
    let (objects, findings) = match weir_reconcile::load(&files) {
        Ok(stack) => {
            if stack.gateways.is_empty() {
                // A part of a stack is valid, and a file of pools may be checked alone.
                let what = "there is no InferenceGateway: `weir up` needs one in its files";
                anstream::eprintln!("{} {what}", warning("!"));
            }
            (stack.origins.len(), Vec::new())
        }
        Err(findings) => (0, findings),
    };
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&findings)?),
        Output::Text if findings.is_empty() => {
            anstream::println!(
                "{} {objects} objects in {} files",
                good("valid:"),
                files.len()
            );
        }
        Output::Text => {
            for finding in &findings {
                anstream::println!("{finding}");
            }
        }
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(Failure::said())
    }
}
