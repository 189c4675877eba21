//! The corpora: passages in a memory of their own, and questions whose answers are known.
//!
//! Each corpus has a store in the cache folder that is filled anew; a second run finds the vectors (`vectors.rs`). The
//! multi-hop sets are read as they were published; the questions of the Python documentation are the headings of its
//! FAQ, whose page is hidden with all its links, and what it linked to is gold. `corpora/foldoc.rs` and
//! `corpora/metamath.rs` read the dictionary and the theorems. Measures nothing: `mod.rs` does.

mod foldoc;
mod metamath;

use super::vectors::Vectors;
use super::{Progress, RetrievalError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use weir_memory::ingest::{IngestOptions, ingest};
use weir_memory::{
    Filter, LabelledQuestion, Memory, MemoryConfig, Node, NodeId, Query, RecallLimits,
    SHARED_TENANT,
};

/// Words of the longest passage of the multi-hop sets, which are passages already.
const WHOLE: usize = 4000;
/// Texts that are embedded at a time.
const BATCH: usize = 64;
/// Draws the questions of a set that has more than are asked.
const SEED: u64 = 1;
/// A heading with more links than this asks for a list, which five passages cannot hold.
const GOLD_MAX: usize = 4;

/// A memory and its questions.
#[derive(Debug)]
pub struct Corpus {
    /// Name in reports.
    pub name: &'static str,
    /// The passages.
    pub memory: Memory,
    /// The questions with the nodes that answer them.
    pub questions: Vec<LabelledQuestion>,
}

/// A passage as the multi-hop sets have it.
#[derive(Deserialize)]
struct Passage {
    title: String,
    text: String,
}

/// A question as the multi-hop sets have it: gold by title or by place.
#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(default)]
    gold_titles: Vec<String>,
    #[serde(default)]
    gold_passages: Vec<usize>,
}

/// Where corpora are kept and what makes their vectors.
pub(super) struct Shelf<'a> {
    pub(super) cache: &'a Path,
    pub(super) vectors: Vectors<'a>,
}

/// A passage of a set, with the places of those it links to.
#[derive(Debug, Default)]
struct Record {
    title: String,
    text: String,
    links: Vec<usize>,
}

/// A question with the places of the passages that answer it, and of those that nobody may see.
#[derive(Debug)]
struct Held {
    question: String,
    gold: Vec<usize>,
    hidden: Vec<usize>,
}

/// Passages and questions as a file has them.
#[derive(Debug, Default)]
struct Set {
    records: Vec<Record>,
    questions: Vec<Held>,
}

/// Up to `most` of the questions, drawn with `seed`.
fn drawn(mut questions: Vec<Held>, most: usize, seed: u64) -> Vec<Held> {
    questions.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    questions.truncate(most);
    questions
}

/// Opens a multi-hop set of the files `<set>_corpus.json` and `<set>_questions.json` in `folder`.
pub(super) fn multihop(
    shelf: &mut Shelf<'_>,
    name: &'static str,
    set: &str,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Corpus, RetrievalError> {
    let passages: Vec<Passage> = read(&folder.join(format!("{set}_corpus.json")))?;
    let asked: Vec<Asked> = read(&folder.join(format!("{set}_questions.json")))?;
    let titles = passages.iter().enumerate();
    let by_title: HashMap<String, usize> = titles.map(|(at, p)| (p.title.clone(), at)).collect();
    let held = |asked: Asked| {
        let titled = asked
            .gold_titles
            .iter()
            .filter_map(|title| by_title.get(title));
        Held {
            gold: titled.chain(&asked.gold_passages).copied().collect(),
            question: asked.question,
            hidden: Vec::new(),
        }
    };
    let questions = asked.into_iter().map(held).collect();
    let record = |passage: Passage| Record {
        title: passage.title,
        text: passage.text,
        links: Vec::new(),
    };
    let records = passages.into_iter().map(record).collect();
    shelf.corpus(name, &Set { records, questions }, progress)
}

/// Opens the dictionary in `file`, as dictd keeps it: foldoc.dict.dz or what it unpacks to.
pub(super) fn foldoc(
    shelf: &mut Shelf<'_>,
    file: &Path,
    progress: &mut Progress<'_>,
) -> Result<Corpus, RetrievalError> {
    let bytes = std::fs::read(file).map_err(|error| RetrievalError::file(file, error))?;
    let bytes = foldoc::unpacked(bytes).ok_or_else(|| {
        let damaged = std::io::Error::from(std::io::ErrorKind::InvalidData);
        RetrievalError::file(file, damaged)
    })?;
    let set = foldoc::set(&String::from_utf8_lossy(&bytes), SEED);
    shelf.corpus("foldoc", &set, progress)
}

/// Opens the theorems of the Metamath database in `file`.
pub(super) fn metamath(
    shelf: &mut Shelf<'_>,
    file: &Path,
    progress: &mut Progress<'_>,
) -> Result<Corpus, RetrievalError> {
    let text = std::fs::read_to_string(file).map_err(|error| RetrievalError::file(file, error))?;
    shelf.corpus("set.mm", &metamath::set(&text, SEED), progress)
}

/// Opens the Python documentation in `folder`.
pub(super) fn python_docs(
    shelf: &mut Shelf<'_>,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Corpus, RetrievalError> {
    let name = "python-docs";
    let options = IngestOptions {
        domain: Some("python".to_owned()),
        ..IngestOptions::default()
    };
    let memory = shelf.filled(name, folder, &options, progress)?;
    let nodes = places(&memory)?;
    let page = |node: &Node| -> Option<String> {
        let uri = node.metadata.uri.as_deref()?;
        let page = uri.split('#').next().unwrap_or(uri);
        page.contains("faq/").then(|| page.to_owned())
    };
    let faq: HashSet<NodeId> = (nodes.iter())
        .filter(|node| page(node).is_some())
        .map(|node| node.id)
        .collect();
    // A section may be several passages, whose links are all its own.
    let mut sections: Vec<(String, String, HashSet<NodeId>)> = Vec::new();
    for node in &nodes {
        let title = node.metadata.title.as_deref().unwrap_or_default();
        let Some((page, (_, heading))) = page(node).zip(title.split_once(" › ")) else {
            continue;
        };
        if !heading.ends_with('?') {
            continue;
        }
        let linked = memory.edges(node.id).map_err(RetrievalError::Memory)?;
        let gold = (linked.iter())
            .filter(|edge| edge.src == node.id && edge.rel == "hyperlink")
            .filter(|edge| !faq.contains(&edge.dst))
            .map(|edge| edge.dst);
        let known = (sections.iter_mut()).find(|section| section.0 == page && section.1 == heading);
        match known {
            Some(section) => section.2.extend(gold),
            None => sections.push((page, heading.to_owned(), gold.collect())),
        }
    }
    let mut questions = Vec::new();
    for (asked_on, heading, gold) in sections {
        if gold.is_empty() || gold.len() > GOLD_MAX {
            continue;
        }
        let on_page = |node: &&Node| page(node).is_some_and(|page| page == asked_on);
        let hidden = nodes.iter().filter(on_page).map(|node| node.id).collect();
        let gold = gold.into_iter().collect();
        questions.push(labelled(&heading, gold, hidden, &mut shelf.vectors)?);
    }
    Ok(Corpus {
        name,
        memory,
        questions,
    })
}

fn labelled(
    question: &str,
    mut gold: Vec<NodeId>,
    hidden: Vec<NodeId>,
    vectors: &mut Vectors<'_>,
) -> Result<LabelledQuestion, RetrievalError> {
    gold.sort_unstable();
    let vector = vectors.of(&[question])?.pop();
    let query = Query {
        text: question.to_owned(),
        vector,
        filter: Filter {
            tenant: SHARED_TENANT.to_owned(),
            hidden,
            ..Filter::default()
        },
        k: RecallLimits::default().seeds,
        ..Query::default()
    };
    Ok(LabelledQuestion { query, gold })
}

impl Shelf<'_> {
    /// The store and the questions of a set.
    fn corpus(
        &mut self,
        name: &'static str,
        set: &Set,
        progress: &mut Progress<'_>,
    ) -> Result<Corpus, RetrievalError> {
        let source = self.cache.join(format!("{name}.jsonl"));
        let mut lines = String::new();
        for (place, record) in set.records.iter().enumerate() {
            let links: Vec<String> = record.links.iter().map(usize::to_string).collect();
            let line = serde_json::json!({
                "id": place.to_string(), "title": record.title, "text": record.text, "links": links,
            });
            let _ = writeln!(lines, "{line}");
        }
        std::fs::write(&source, lines).map_err(|error| RetrievalError::file(&source, error))?;
        let options = IngestOptions {
            passage_words: WHOLE,
            ..IngestOptions::default()
        };
        let memory = self.filled(name, &source, &options, progress)?;
        let nodes = places(&memory)?;
        let by_place: HashMap<&str, NodeId> = (nodes.iter())
            .filter_map(|node| Some((node.metadata.uri.as_deref()?.split_once('#')?.1, node.id)))
            .collect();
        let ids = |places: &[usize]| -> Vec<NodeId> {
            let ids = places
                .iter()
                .filter_map(|place| by_place.get(place.to_string().as_str()));
            let ids: HashSet<NodeId> = ids.copied().collect();
            ids.into_iter().collect()
        };
        let mut questions = Vec::new();
        for held in &set.questions {
            let (gold, hidden) = (ids(&held.gold), ids(&held.hidden));
            questions.push(labelled(&held.question, gold, hidden, &mut self.vectors)?);
        }
        Ok(Corpus {
            name,
            memory,
            questions,
        })
    }

    /// The store of a corpus, with all its passages and their vectors.
    fn filled(
        &mut self,
        name: &'static str,
        source: &Path,
        options: &IngestOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Memory, RetrievalError> {
        let config = MemoryConfig {
            dimensions: self.vectors.dimensions(),
            embedding_model: self.vectors.revision().to_owned(),
        };
        let folder = self.cache.join(name);
        if folder.exists() {
            let removed = std::fs::remove_dir_all(&folder);
            removed.map_err(|error| RetrievalError::file(&folder, error))?;
        }
        let memory = Memory::open(&folder, &config).map_err(RetrievalError::Open)?;
        let paths = [source.to_owned()];
        ingest(&memory, &paths, options, &mut |_| {}).map_err(RetrievalError::Ingest)?;
        loop {
            let waiting = memory.pending_vectors(BATCH);
            let waiting = waiting.map_err(RetrievalError::Memory)?;
            let counts = memory.counts();
            progress(name, counts.vectors, counts.nodes);
            if waiting.is_empty() {
                break;
            }
            let texts: Vec<&str> = waiting.iter().map(|(_, text)| text.as_str()).collect();
            let vectors = self.vectors.of(&texts)?;
            let ids = waiting.iter().map(|(id, _)| *id);
            let vectors: Vec<(NodeId, Vec<f32>)> = ids.zip(vectors).collect();
            memory
                .set_vectors(&vectors)
                .map_err(RetrievalError::Write)?;
        }
        while memory.join_topics(BATCH).map_err(RetrievalError::Topics)? > 0 {}
        Ok(memory)
    }
}

/// All passages.
fn places(memory: &Memory) -> Result<Vec<Node>, RetrievalError> {
    let filter = Filter {
        tenant: SHARED_TENANT.to_owned(),
        ..Filter::default()
    };
    let mut nodes = Vec::new();
    memory
        .each_node(&filter, &mut |node| nodes.push(node))
        .map_err(RetrievalError::Memory)?;
    Ok(nodes)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RetrievalError> {
    let text = std::fs::read_to_string(path).map_err(|error| RetrievalError::file(path, error))?;
    serde_json::from_str(&text).map_err(|source| RetrievalError::Parse {
        path: path.display().to_string(),
        source,
    })
}
