//! Context: which of the recalled nodes enter a prompt, and how they are printed.

use crate::node::{Node, NodeId};

/// A node that may enter the prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The node.
    pub node: Node,
    /// Its attention (any positive scale); candidates come highest first.
    pub score: f32,
}

/// One block of the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Its number in the prompt, from 1: what a citation `[1]` means.
    pub number: usize,
    /// The node it shows.
    pub id: NodeId,
    /// The node's title.
    pub title: Option<String>,
    /// Where the text stands.
    pub uri: Option<String>,
    /// The candidate's score.
    pub score: f32,
    /// The text shown: the node's text, perhaps cut at the end of a sentence.
    pub text: String,
    /// Tokens of the printed block, header and title included.
    pub tokens: usize,
}

/// What enters a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// The blocks in the order they are printed.
    pub blocks: Vec<Block>,
    /// All blocks as one text; empty when there are none.
    pub text: String,
    /// Tokens of `text`.
    pub tokens: usize,
}

/// Fills `budget_tokens` with the best candidates.
pub fn assemble(
    candidates: &[Candidate],
    budget_tokens: usize,
    count: &dyn Fn(&str) -> usize,
) -> Context {
    let _ = (candidates, budget_tokens, count);
    Context::default()
}
