//! What an engine is started with: the program, its arguments, its port, its threads.
//!
//! Pure but for two look-ups: the file system (where `llama-server` is) and the system's choice of a free port. Starting
//! and watching the process is `supervisor.rs`.

use crate::files::Stamp;
use crate::home::Home;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Everything that decides how an engine runs. Two equal specs need one process: a reload keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineSpec {
    /// Name of the pool.
    pub(crate) pool: String,
    /// Name of the model, shown by the engine.
    pub(crate) model: String,
    /// `llama-server`.
    pub(crate) program: PathBuf,
    /// The GGUF file.
    pub(crate) file: PathBuf,
    /// Its size and time of change: another file at the same path needs another process.
    pub(crate) stamp: Stamp,
    /// Tokens of one request.
    pub(crate) context_tokens: u32,
    /// Requests at the same time.
    pub(crate) slots: u32,
    /// Threads of the engine.
    pub(crate) threads: u32,
    /// Length of its vectors when it embeds; `None` when it generates.
    pub(crate) embeds: Option<usize>,
    /// Appended as they are.
    pub(crate) extra_args: Vec<String>,
}

/// Why no engine program was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The program that the user named is none.
    #[error("--llama-server {0}: no executable file there; name the path of llama.cpp's server")]
    NotExecutable(PathBuf),
    /// Nothing was found.
    #[error(
        "llama-server not found in PATH nor at {cache}; install llama.cpp (`brew install llama.cpp`, `apt install \
         llama.cpp` or a release of github.com/ggml-org/llama.cpp), or pass --llama-server PATH"
    )]
    Missing {
        /// The last place that was tried.
        cache: PathBuf,
    },
}

impl EngineSpec {
    /// Arguments of `llama-server` when it listens on `port`.
    pub(crate) fn args(&self, port: u16) -> Vec<OsString> {
        let rest = weir_reconcile::llama_cpp_args(&weir_reconcile::EngineArgs {
            model: &self.model,
            host: &Ipv4Addr::LOCALHOST.to_string(),
            port,
            threads: self.threads,
            embeds: self.embeds.is_some(),
            context_tokens: self.context_tokens,
            slots: self.slots,
            extra_args: &self.extra_args,
        });
        let mut args: Vec<OsString> = vec!["-m".into(), self.file.clone().into()];
        args.extend(rest.into_iter().map(OsString::from));
        args
    }
}

/// Finds `llama-server`: the one the user named, else the first in PATH, else the one in the cache.
///
/// # Errors
/// There is none, or the named one is none.
pub fn locate_engine(named: Option<&Path>, home: &Home) -> Result<PathBuf, LocateError> {
    let path = std::env::var_os("PATH");
    locate(named, path.as_ref(), &home.engine())
}

/// Finds `llama-server`: the one the user named, else the first in `path` (the PATH variable), else `cache`.
fn locate(
    named: Option<&Path>,
    path: Option<&OsString>,
    cache: &Path,
) -> Result<PathBuf, LocateError> {
    if let Some(named) = named {
        let found = is_executable(named).then(|| named.to_path_buf());
        return found.ok_or_else(|| LocateError::NotExecutable(named.to_path_buf()));
    }
    let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    folders
        .unwrap_or_default()
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("llama-server"))
        .chain([cache.to_path_buf()])
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| LocateError::Missing {
            cache: cache.to_path_buf(),
        })
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A port that was free a moment ago. Somebody may take it before the engine does; the engine then ends at once and
/// its next start asks for another.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Threads of each engine: what the pool asks for, else all processors but one, which is left for the gateway.
pub(crate) fn threads(asked: Option<u32>) -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    threads_of(asked, u32::try_from(processors).unwrap_or(u32::MAX))
}

fn threads_of(asked: Option<u32>, processors: u32) -> u32 {
    let shared = processors.saturating_sub(1).max(1);
    asked.filter(|threads| *threads > 0).unwrap_or(shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    fn spec() -> EngineSpec {
        EngineSpec {
            pool: "small".into(),
            model: "smollm2-135m".into(),
            program: "/bin/llama-server".into(),
            file: "/models/m.gguf".into(),
            stamp: files::stamp(Path::new("/")).unwrap(),
            context_tokens: 2048,
            slots: 4,
            threads: 3,
            embeds: None,
            extra_args: vec!["--no-repack".into()],
        }
    }

    #[test]
    fn every_slot_gets_the_whole_context_and_extra_arguments_come_last() {
        let args: Vec<String> = spec()
            .args(4123)
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        let line = args.join(" ");
        assert_eq!(
            line,
            "-m /models/m.gguf --alias smollm2-135m --host 127.0.0.1 --port 4123 -c 8192 -np 4 -t 3 --jinja --metrics \
             --no-webui --no-repack"
        );
    }

    #[test]
    fn an_engine_that_embeds_reads_a_whole_text_in_one_piece() {
        let spec = EngineSpec {
            embeds: Some(576),
            ..spec()
        };
        let args = spec.args(4123);
        let (last, args) = args.split_last().unwrap();
        assert_eq!(
            args[args.len() - 3..],
            ["--embeddings", "--ubatch-size", "2048"]
        );
        assert_eq!(last, "--no-repack");
    }

    #[test]
    fn the_named_engine_wins_then_the_path_then_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = folder.path().join(name).join("llama-server");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (in_path, cache) = (make("path", 0o755), make("cache", 0o755));
        let plain = make("plain", 0o644);
        let variable = std::env::join_paths([plain.parent().unwrap(), in_path.parent().unwrap()]);
        let variable = variable.unwrap();
        assert_eq!(
            locate(Some(&cache), Some(&variable), &plain).unwrap(),
            cache
        );
        assert_eq!(locate(None, Some(&variable), &cache).unwrap(), in_path);
        assert_eq!(locate(None, None, &cache).unwrap(), cache);
        assert_eq!(
            locate(Some(&plain), None, &cache),
            Err(LocateError::NotExecutable(plain.clone()))
        );
        let error = locate(None, None, &plain).unwrap_err().to_string();
        assert!(error.contains("install llama.cpp"), "{error}");
    }

    #[test]
    fn one_processor_is_left_for_the_gateway_unless_the_pool_asks() {
        let cases = [
            (None, 8, 7),
            (None, 2, 1),
            (None, 1, 1),
            (Some(7), 2, 7),
            (Some(0), 4, 3),
        ];
        for (asked, processors, expected) in cases {
            assert_eq!(
                threads_of(asked, processors),
                expected,
                "{asked:?} {processors}"
            );
        }
    }
}
