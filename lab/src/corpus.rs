//! Which passages of a memory hold the fact that a question asks for, and which must be hidden from who answers it.
//!
//! A passage is gold by where it stands (its page) and by what it says (the evidence), never by how a search ranks it.
//! Hidden is a page that answers the question word by word, and with its passages the links to what is gold.
//! One pass over the memory serves all questions.

use crate::questions::Question;
use std::collections::{HashMap, HashSet};
use weir_memory::{Filter, Memory, Node, NodeId, ReadError};

/// The gold passages of a set of questions in one memory, and those to hide.
#[derive(Debug, Default)]
pub struct Corpus {
    /// For each question's id, the gold passages of each of its gold places.
    gold: HashMap<String, Vec<HashSet<NodeId>>>,
    /// For each question's id, the passages of the page that it was made from.
    hidden: HashMap<String, Vec<NodeId>>,
}

impl Corpus {
    /// Reads every passage that `tenant` sees.
    pub fn read(memory: &Memory, tenant: &str, questions: &[Question]) -> Result<Self, ReadError> {
        let filter = Filter {
            tenant: tenant.to_owned(),
            ..Filter::default()
        };
        let mut corpus = Self::default();
        memory.each_node(&filter, &mut |node| corpus.add(&node, questions))?;
        Ok(corpus)
    }

    fn add(&mut self, node: &Node, questions: &[Question]) {
        let Some(uri) = node.metadata.uri.as_deref() else {
            return;
        };
        let page = uri.split('#').next().unwrap_or(uri);
        let title = node.metadata.title.as_deref().unwrap_or_default();
        let mut text = None;
        for question in questions {
            if question
                .without
                .as_deref()
                .is_some_and(|hidden| is_page(page, hidden))
            {
                let hidden = self.hidden.entry(question.id.clone()).or_default();
                hidden.push(node.id);
            }
            for (index, gold) in question.gold.iter().enumerate() {
                let wanted = gold.uri.split('#').next().unwrap_or(&gold.uri);
                if !is_page(page, wanted) {
                    continue;
                }
                let text = text.get_or_insert_with(|| squeezed(&format!("{title} {}", node.text)));
                if gold
                    .evidence
                    .iter()
                    .all(|part| text.contains(&squeezed(part)))
                {
                    let places = self.gold.entry(question.id.clone()).or_default();
                    places.resize_with(question.gold.len(), HashSet::new);
                    places[index].insert(node.id);
                }
            }
        }
    }

    /// The passages that answer the question word by word: whoever answers it must not see them.
    pub fn hidden(&self, question: &Question) -> &[NodeId] {
        self.hidden.get(&question.id).map_or(&[], Vec::as_slice)
    }

    /// Share of the question's gold places found among the first `k` of `ranked`; `None` when the corpus holds not all
    /// of them.
    pub fn recall_at(&self, question: &Question, ranked: &[NodeId], k: usize) -> Option<f64> {
        let places = self.gold.get(&question.id)?;
        if places.iter().any(HashSet::is_empty) {
            return None;
        }
        let first = &ranked[..k.min(ranked.len())];
        let found = places
            .iter()
            .filter(|place| first.iter().any(|id| place.contains(id)));
        Some(found.count() as f64 / places.len() as f64)
    }

    /// Questions all of whose gold places are in the corpus.
    pub fn complete(&self) -> usize {
        self.gold.values().filter(|places| complete(places)).count()
    }

    /// Whether all gold places of the question, which has some, are in the corpus.
    pub fn holds(&self, question: &Question) -> bool {
        self.gold
            .get(&question.id)
            .is_some_and(|places| complete(places))
    }
}

fn complete(places: &[HashSet<NodeId>]) -> bool {
    places.iter().all(|place| !place.is_empty())
}

/// Whether a path, relative or absolute, ends in the page `library/x.html`.
fn is_page(path: &str, page: &str) -> bool {
    path.strip_suffix(page)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// Lower case without white space: mark-up may add or drop spaces anywhere in a signature.
fn squeezed(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && *c != '`' && *c != '*')
        .flat_map(char::to_lowercase)
        .map(|c| if c == '’' { '\'' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_memory::{Batch, MemoryConfig, NewNode};

    fn passage(uri: &str, text: &str) -> NewNode {
        let mut node = NewNode::new("shared", text);
        node.metadata.uri = Some(uri.to_owned());
        node
    }

    #[test]
    fn a_passage_is_gold_by_its_page_and_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let config = MemoryConfig {
            dimensions: 2,
            embedding_model: "none".into(),
        };
        let memory = Memory::open(folder.path(), &config).unwrap();
        let nodes = vec![
            passage("docs/library/bisect.html#a", "bisect.insort(a, x, lo = 0)"),
            passage("docs/library/heapq.html#a", "insort(a, x, lo=0)"),
            passage("docs/faq/library.html#b", "How so?"),
        ];
        memory
            .write(&Batch {
                nodes,
                edges: Vec::new(),
            })
            .unwrap();
        let mut question = crate::questions::read(None).unwrap().remove(0);
        question.gold = vec![crate::questions::Gold {
            uri: "library/bisect.html#bisect.insort".into(),
            evidence: vec!["insort".into(), "lo=0".into()],
        }];
        question.without = Some("faq/library.html".into());
        let corpus = Corpus::read(&memory, "me", std::slice::from_ref(&question)).unwrap();
        let ids = memory.ids(&Filter {
            tenant: "me".into(),
            ..Filter::default()
        });
        let gold: Vec<bool> = ids
            .iter()
            .map(|id| corpus.recall_at(&question, &[*id], 5) == Some(1.0))
            .collect();
        assert_eq!(gold.iter().filter(|g| **g).count(), 1);
        assert_eq!(corpus.recall_at(&question, &[], 5), Some(0.0));
        assert_eq!(corpus.complete(), 1);
        let faq = memory.nodes(corpus.hidden(&question)).unwrap();
        let faq: Vec<&str> = faq.iter().map(|node| node.text.as_str()).collect();
        assert_eq!(faq, ["How so?"]);
        question.without = None;
        let corpus = Corpus::read(&memory, "me", std::slice::from_ref(&question)).unwrap();
        assert!(corpus.hidden(&question).is_empty());
    }

    #[test]
    fn pages_are_matched_by_whole_path_segments() {
        assert!(is_page("/a/library/io.html", "library/io.html"));
        assert!(is_page("library/io.html", "library/io.html"));
        assert!(!is_page("/a/xlibrary/io.html", "library/io.html"));
    }
}
