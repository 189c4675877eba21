//! What the operator costs while nothing changes: memory, processor, and writes as the API server's audit log has them.

use crate::process::Operator;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

/// Nothing was written for this long: what was set in motion has ended.
const SETTLED: Duration = Duration::from_secs(5);
/// Longest wait for that.
const SETTLING: Duration = Duration::from_secs(300);

/// What was seen of a quiet time.
pub(crate) struct Quiet {
    pub(crate) resident_mib: f64,
    pub(crate) resident_peak_mib: f64,
    pub(crate) cpu_seconds: f64,
    written: Written,
}

/// Watches for so long while nobody changes anything.
pub(crate) async fn measure(
    (operator, audit_log): (&Operator, &Path),
    time: Duration,
) -> Result<Quiet> {
    settled(audit_log).await?;
    let mut log = AuditLog::from_now(audit_log)?;
    let before = operator.cpu_seconds()?;
    tokio::time::sleep(time).await;
    let cpu_seconds = operator.cpu_seconds()? - before;
    let (resident_mib, resident_peak_mib) = operator.resident_mib()?;
    Ok(Quiet {
        resident_mib,
        resident_peak_mib,
        cpu_seconds,
        written: log.writes()?,
    })
}

/// Waits until the operator writes nothing but leases any more.
pub(crate) async fn settled(audit_log: &Path) -> Result<()> {
    let started = Instant::now();
    let mut log = AuditLog::from_now(audit_log)?;
    loop {
        tokio::time::sleep(SETTLED).await;
        let written = log.writes()?;
        if written.but_leases() == 0 {
            return Ok(());
        }
        ensure!(
            started.elapsed() < SETTLING,
            "still written after {} s: {written:?}",
            SETTLING.as_secs()
        );
    }
}

impl Quiet {
    /// Writes of the operator to anything but leases.
    pub(crate) fn writes(&self) -> f64 {
        f64::from(self.written.but_leases())
    }

    /// Every write, also those of others.
    pub(crate) fn told(&self) -> String {
        let kinds = self.written.0.iter();
        let kinds = kinds.map(|((what, author), count)| match author.is_empty() {
            true => format!("{count} {what}"),
            false => format!("{count} {what} by {author}"),
        });
        kinds.collect::<Vec<_>>().join(", ")
    }
}

/// Writes by what was done, `patch modelpools/status`, and the component of Kubernetes that did it. It is empty for the
/// operator, which comes as the person whose kubeconfig it has; this program, which does too, writes only leases meanwhile.
#[derive(Debug, Default)]
struct Written(BTreeMap<(String, String), u32>);

impl Written {
    fn but_leases(&self) -> u32 {
        let own = self
            .0
            .iter()
            .filter(|((what, author), _)| author.is_empty() && !what.ends_with(" leases"));
        own.map(|(_, count)| count).sum()
    }

    fn read(lines: &str) -> Self {
        let mut written = Self::default();
        for line in lines.lines() {
            let Ok(entry) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &entry["objectRef"];
            let mut kind = word(&object["resource"]);
            if let Some(part) = object["subresource"].as_str() {
                kind = format!("{kind}/{part}");
            }
            let what = format!("{} {kind}", word(&entry["verb"]));
            let author = word(&entry["user"]["username"]);
            let component = author.strip_prefix("system:").unwrap_or_default();
            let component = component.rsplit(':').next().unwrap_or_default().to_owned();
            *written.0.entry((what, component)).or_insert(0) += 1;
        }
        written
    }
}

/// The end of the audit log.
struct AuditLog(File);

impl AuditLog {
    fn from_now(path: &Path) -> Result<Self> {
        let open = || File::open(path);
        let mut file = open().with_context(|| format!("open {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// What was written since it was asked before.
    fn writes(&mut self) -> Result<Written> {
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        // A line that is being written is read the next time.
        let (whole, rest) = text.rsplit_once('\n').unwrap_or(("", &text));
        self.0
            .seek(SeekFrom::Current(-i64::try_from(rest.len())?))?;
        Ok(Written::read(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_operators_writes_count_and_leases_do_not() {
        let line = |author: &str, verb: &str, resource: &str, part: &str| {
            format!(
                r#"{{"verb":"{verb}","user":{{"username":"{author}"}},"objectRef":{{"resource":"{resource}","subresource":{part}}}}}"#
            )
        };
        let binder = "system:serviceaccount:kube-system:persistent-volume-binder";
        let lines = [
            line("admin", "update", "leases", "null"),
            line("admin", "patch", "modelpools", r#""status""#),
            line(binder, "patch", "events", "null"),
            line("admin", "update", "leases", "null"),
            "half a li".to_owned(),
        ];
        let written = Written::read(&lines.join("\n"));
        assert_eq!(written.but_leases(), 1);
        let key = |what: &str, author: &str| (what.to_owned(), author.to_owned());
        assert_eq!(written.0[&key("update leases", "")], 2);
        assert_eq!(written.0[&key("patch modelpools/status", "")], 1);
        assert_eq!(
            written.0[&key("patch events", "persistent-volume-binder")],
            1
        );
    }
}
