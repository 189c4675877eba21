//! What was sent to a gateway elsewhere, by document, so that a later run can remove the passages that a file no longer has.
//!
//! A gateway does not tell which passages a document had; this file on the sender's side does. A passage is written down
//! before it is sent and struck out after it was removed, so that a run that breaks off forgets nothing.

use crate::home::Home;
use crate::memory::IngestOptions;
use crate::{digest, files};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use weir_memory::NodeId;

/// Passages of a document, by the document's key.
type Documents = BTreeMap<String, BTreeSet<NodeId>>;

/// What one tenant sent to one gateway.
#[derive(Debug)]
pub struct Sent {
    path: PathBuf,
    rows: Rows,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rows {
    gateway: String,
    tenant: String,
    documents: Documents,
}

impl Sent {
    /// Reads what is known of this gateway and tenant, which is nothing for the first time.
    ///
    /// # Errors
    /// The file cannot be read, or is not what this program writes.
    pub fn open(home: &Home, gateway: &str, tenant: &str) -> io::Result<Self> {
        let name = digest::of_bytes(format!("{gateway}\n{tenant}").as_bytes());
        let path = home.root().join(format!("sent-{}.json", &name[..16]));
        let rows = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Rows {
                gateway: gateway.to_owned(),
                tenant: tenant.to_owned(),
                documents: Documents::new(),
            },
            Err(error) => return Err(error),
        };
        Ok(Self { path, rows })
    }

    /// These passages are about to be sent.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&mut self, documents: &[(String, Vec<NodeId>)]) -> io::Result<()> {
        for (key, ids) in documents {
            let known = self.rows.documents.entry(key.clone()).or_default();
            known.extend(ids);
        }
        self.save()
    }

    /// Passages that were sent once and that their documents no longer have.
    pub fn stale(&self, documents: &[(String, Vec<NodeId>)]) -> Vec<NodeId> {
        let present: BTreeSet<&NodeId> = documents.iter().flat_map(|(_, ids)| ids).collect();
        let known = documents
            .iter()
            .filter_map(|(key, _)| self.rows.documents.get(key));
        known
            .flatten()
            .filter(|id| !present.contains(id))
            .copied()
            .collect()
    }

    /// Documents that were sent once from below the folders of `options` and whose files are gone. Nobody knows that of what
    /// is `bad`.
    pub fn gone(
        &self,
        documents: &[(String, Vec<NodeId>)],
        options: &IngestOptions,
        bad: &[(PathBuf, String)],
    ) -> Vec<String> {
        let present: BTreeSet<&String> = documents.iter().map(|(key, _)| key).collect();
        let folders = options.paths.iter().filter(|path| path.is_dir());
        let folders: Vec<&PathBuf> = folders.collect();
        let is_gone = |key: &&String| {
            let path = Path::new(key.as_str());
            !present.contains(key)
                && folders.iter().any(|folder| path.starts_with(folder))
                && !bad.iter().any(|(bad, _)| path.starts_with(bad))
        };
        self.rows
            .documents
            .keys()
            .filter(is_gone)
            .cloned()
            .collect()
    }

    /// The passages that were sent of a document.
    pub fn passages(&self, key: &str) -> Vec<NodeId> {
        let known = self.rows.documents.get(key);
        known.into_iter().flatten().copied().collect()
    }

    /// These passages are there, and no others of their documents; nothing is left of the documents that are `gone`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(
        &mut self,
        documents: &[(String, Vec<NodeId>)],
        gone: &[String],
    ) -> io::Result<()> {
        for key in gone {
            self.rows.documents.remove(key);
        }
        for (key, ids) in documents {
            let ids = ids.iter().copied().collect();
            self.rows.documents.insert(key.clone(), ids);
        }
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        files::replace(&self.path, &serde_json::to_vec(&self.rows)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_that_a_file_no_longer_has_is_stale_until_its_removal_was_finished() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path(), folder.path());
        let open = |tenant: &str| Sent::open(&home, "https://a", tenant).unwrap();
        let ids: Vec<NodeId> = (0..4).map(|_| NodeId::random()).collect();
        let first = [
            ("a.md".to_owned(), vec![ids[0], ids[1]]),
            ("b.md".to_owned(), vec![ids[2]]),
        ];
        let mut sent = open("shared");
        assert_eq!(sent.stale(&first), []);
        sent.begin(&first).unwrap();
        sent.finish(&first, &[]).unwrap();

        let second = [("a.md".to_owned(), vec![ids[0], ids[3]])];
        open("shared").begin(&second).unwrap();
        // The run broke off; the next one still knows.
        let mut sent = open("shared");
        assert_eq!(sent.stale(&second), [ids[1]]);
        sent.finish(&second, &[]).unwrap();
        assert_eq!(open("shared").stale(&second), []);
        assert_eq!(open("acme").stale(&second), []);
    }

    #[test]
    fn a_document_whose_file_is_gone_is_named_unless_nobody_can_know() {
        let folder = tempfile::tempdir().unwrap();
        let docs = std::fs::canonicalize(folder.path()).unwrap();
        let home = Home::at(&docs, &docs);
        let key = |name: &str| format!("{}/{name}", docs.display());
        let ids: Vec<NodeId> = (0..4).map(|_| NodeId::random()).collect();
        let names = ["a.md", "b.md", "locked/c.md", "d.md"];
        let sent_once: Vec<(String, Vec<NodeId>)> = (names.iter().zip(&ids))
            .map(|(name, id)| (key(name), vec![*id]))
            .chain([("/elsewhere/e.md".to_owned(), vec![NodeId::random()])])
            .collect();
        let mut sent = Sent::open(&home, "https://a", "shared").unwrap();
        sent.finish(&sent_once, &[]).unwrap();
        let options = IngestOptions {
            paths: vec![docs.clone()],
            tenant: None,
            domain: None,
            mirror: true,
        };
        let bad = [(docs.join("locked"), "permission denied".to_owned())];
        let left = &sent_once[..1];
        assert_eq!(sent.gone(left, &options, &bad), [key("b.md"), key("d.md")]);
        assert_eq!(sent.passages(&key("b.md")), [ids[1]]);
        sent.finish(left, &[key("b.md"), key("d.md")]).unwrap();
        let sent = Sent::open(&home, "https://a", "shared").unwrap();
        assert_eq!(sent.gone(left, &options, &[]), [key("locked/c.md")]);
    }
}
