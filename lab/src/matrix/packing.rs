//! What recalled passages cost a prompt and bring an answer: whole as they rank, or packed as the gateway packs them.
//!
//! Passages are found by words alone, the same for every model. Both prompts hold them before the question, in one message.

use crate::corpus::Corpus;
use crate::questions::{Question, Scenario, Split};
use std::path::PathBuf;
use weir_embed::TokenCounter;
use weir_memory::context::{Candidate, assemble};
use weir_memory::ingest::{IngestError, IngestOptions, ingest};
use weir_memory::{
    Filter, Memory, MemoryConfig, Node, NodeId, OpenError, Query, ReadError, SHARED_TENANT,
    SearchError,
};

/// Passages of a prompt that does not pack them.
const PASSAGES: usize = 10;

/// Passages that packing chooses from, as many as the gateway's search gives.
const CANDIDATES: usize = 64;

/// Tokens of a packed context, the bin that most requests get.
const PACKED_TOKENS: usize = 400;

const INSTRUCTION: &str = "Answer the question using the passages.";

/// A question with the passages that were found for it, the best first.
#[derive(Clone, Debug)]
pub struct Recalled {
    pub(super) question: Question,
    passages: Vec<Candidate>,
}

/// Why nothing can be recalled.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// There is no place for the passages.
    #[error("cannot keep the passages in a folder of their own: {0}")]
    Folder(#[from] std::io::Error),
    /// The documents cannot be read in.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The passages cannot be kept.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The passages cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The passages cannot be searched.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// They are other documents than those that the questions are about.
    #[error(
        "the documents hold the answer to none of the questions, which are about the Python documentation"
    )]
    Nothing,
}

/// The first `questions_max` test questions whose answers stand in `documents`, with the passages that their words find.
pub fn recalled(
    documents: PathBuf,
    questions: &[Question],
    questions_max: usize,
) -> Result<Vec<Recalled>, RecallError> {
    let folder = tempfile::tempdir()?;
    let no_vectors = MemoryConfig {
        dimensions: 1,
        embedding_model: "none".into(),
    };
    let memory = Memory::open(folder.path(), &no_vectors)?;
    ingest(
        &memory,
        &[documents],
        &IngestOptions::default(),
        &mut |_| {},
    )?;
    let corpus = Corpus::read(&memory, SHARED_TENANT, questions)?;
    let about = |question: &&Question| {
        question.scenario == Scenario::Moderate
            && question.split == Split::Test
            && corpus.holds(question)
    };
    let found = questions.iter().filter(about).take(questions_max);
    let found: Result<Vec<Recalled>, RecallError> = found
        .map(|question| found_for(&memory, question, corpus.hidden(question)))
        .collect();
    let found = found?;
    match found.is_empty() && questions_max > 0 {
        true => Err(RecallError::Nothing),
        false => Ok(found),
    }
}

fn found_for(
    memory: &Memory,
    question: &Question,
    hidden: &[NodeId],
) -> Result<Recalled, RecallError> {
    let query = Query {
        text: question.question.clone(),
        filter: Filter {
            tenant: SHARED_TENANT.to_owned(),
            hidden: hidden.to_vec(),
            ..Filter::default()
        },
        k: CANDIDATES,
        ..Query::default()
    };
    let hits = memory.search(&query)?.hits;
    let ids: Vec<NodeId> = hits.iter().map(|hit| hit.id).collect();
    let nodes = memory.nodes(&ids)?;
    let node = |id: NodeId| nodes.iter().find(|node| node.id == id).cloned();
    let candidate = |hit: &weir_memory::Hit| Some(Candidate::new(node(hit.id)?, hit.strength));
    Ok(Recalled {
        question: question.clone(),
        passages: hits.iter().filter_map(candidate).collect(),
    })
}

impl Recalled {
    /// The prompt with the passages packed: near duplicates left out, numbered, cut where the budget ends.
    pub(super) fn packed(&self, counter: &TokenCounter) -> String {
        let count = |text: &str| counter.count(text);
        self.prompt(&assemble(&self.passages, PACKED_TOKENS, &count).text)
    }

    /// The prompt with the best ten passages whole, or as many of them as `tokens_max` has room for.
    pub(super) fn whole(&self, counter: &TokenCounter, tokens_max: usize) -> String {
        let best: Vec<&Node> = self
            .passages
            .iter()
            .take(PASSAGES)
            .map(|p| &p.node)
            .collect();
        let prompts = (0..=best.len()).rev().map(|count| {
            let texts: Vec<&str> = best[..count].iter().map(|node| node.text.trim()).collect();
            self.prompt(&texts.join("\n\n"))
        });
        let mut fitting = prompts.filter(|prompt| counter.count(prompt) <= tokens_max);
        fitting.next().unwrap_or_else(|| self.prompt(""))
    }

    fn prompt(&self, passages: &str) -> String {
        format!("{INSTRUCTION}\n\n{passages}\n\n{}", self.question.question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first committed question about a page, and documents that answer it twice in almost the same words.
    fn example() -> (tempfile::TempDir, Vec<Question>) {
        let questions = crate::questions::read(None).unwrap();
        let about = |question: &Question| {
            question.scenario == Scenario::Moderate && question.split == Split::Test
        };
        let question = questions.into_iter().find(about).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let page = question.gold[0].uri.split('#').next().unwrap();
        let fact = format!(
            "{} {}.",
            question.question,
            question.gold[0].evidence.join(" ")
        );
        let section = |anchor: &str, text: &str| {
            format!("<section id=\"{anchor}\"><h2>{anchor}</h2><p>{text}</p></section>")
        };
        let file = folder.path().join(page);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let page = [
            section("fact", &fact),
            section("again", &format!("{fact} So it is.")),
            section(
                "other",
                "Nothing of that kind stands here, and the question is not answered.",
            ),
        ];
        std::fs::write(file, format!("<html><body>{}</body></html>", page.concat())).unwrap();
        (folder, vec![question])
    }

    #[test]
    fn packed_passages_say_it_once_and_whole_ones_as_often_as_it_stands_there() {
        let (documents, questions) = example();
        let found = recalled(documents.path().to_owned(), &questions, 1).unwrap();
        let evidence = &questions[0].gold[0].evidence[0];
        let counter = TokenCounter::estimate();
        let times = |prompt: String| prompt.matches(evidence.as_str()).count();
        let asked = times(questions[0].question.clone());
        let packed = times(found[0].packed(&counter));
        let whole = times(found[0].whole(&counter, 4000));
        assert!(packed > asked, "{packed} of {asked}");
        assert!(whole > packed, "{whole} of {packed}");
        assert!(counter.count(&found[0].whole(&counter, 60)) <= 60);
    }

    #[test]
    fn documents_that_answer_nothing_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("other.md"), "# Frogs\n\nThey croak.\n").unwrap();
        let questions = crate::questions::read(None).unwrap();
        let refused = recalled(folder.path().to_owned(), &questions, 8);
        assert!(matches!(refused, Err(RecallError::Nothing)), "{refused:?}");
    }
}
