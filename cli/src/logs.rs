//! `weir logs`: the end of a log file, and what is added to it.

use crate::args::LogsArgs;
use crate::fail::Failure;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_local::{Home, Instance, StateDir, last_lines};

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: &LogsArgs) -> Result<(), Failure> {
    let home = Home::from_env()?;
    let state = state(&home, args.which.name.as_deref()).await?;
    let path = path(&state, &args.what)?;
    let mut seen = if path.exists() {
        std::fs::metadata(&path)?.len()
    } else {
        0
    };
    for line in last_lines(&path, args.lines)? {
        anstream::println!("{line}");
    }
    let mut inode = std::fs::metadata(&path).map_or(0, |found| found.ino());
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(found) = std::fs::metadata(&path) else {
            continue;
        };
        if found.ino() != inode || found.len() < seen {
            // Rotated: a new file under the same name.
            (inode, seen) = (found.ino(), 0);
        }
        seen += copy_from(&path, seen)?;
    }
}

/// The state folder of the running gateway, or of the only one that ever ran.
async fn state(home: &Home, name: Option<&str>) -> Result<StateDir, Failure> {
    if let Some(name) = name {
        return Ok(home.gateway(name));
    }
    let error = match Instance::find(home, None).await {
        Ok(instance) => return Ok(home.gateway(&instance.control.gateway)),
        Err(error) => error,
    };
    match home.gateways().as_slice() {
        [only] => Ok(home.gateway(only)),
        _ => Err(error.into()),
    }
}

fn path(state: &StateDir, what: &str) -> Result<PathBuf, Failure> {
    if what == "decisions" {
        let path = state.decisions();
        return path.exists().then_some(path).ok_or_else(|| {
            Failure::new(
                "there are no decisions on disk: write spec.logs.sink: file, then ask something",
            )
        });
    }
    let path = state.log(what);
    if path.exists() {
        return Ok(path);
    }
    let mut known: Vec<String> = std::fs::read_dir(state.logs())
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .strip_suffix(".log")
                .map(str::to_owned)
        })
        .collect();
    known.sort();
    known.push("decisions".into());
    let known = known.join(", ");
    Err(Failure::new(format!(
        "there is no log {what:?} in {}: choose one of {known}",
        state.path().display()
    )))
}

fn copy_from(path: &Path, start: u64) -> Result<u64, Failure> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut out = anstream::stdout().lock();
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(bytes.len() as u64)
}
