//! `weir lab retrieval`: what attention is worth, on corpora it was not trained on.
//!
//! Every row ranks the same passages of the same stores for the same questions. Trained rows are trained on the other
//! corpora only, hyper-parameters included. Differences are of the same questions, resampled together. Where the
//! passages come from is `corpora.rs`, what is reported `report.rs`; how long recall takes is a benchmark of its own.

mod corpora;
mod gat;
mod report;
mod vectors;

pub use corpora::Corpus;

use crate::results::Results;
use crate::stats::mean;
use gat::{Asked, Gat};
use report::Measured;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vectors::Vectors;
use weir_embed::Embedder;
use weir_memory::{
    AttentionWeights, Frozen, LabelledQuestion, Memory, NodeId, Query, RecallLimits, TrainError,
    TrainOptions, train,
};

/// Told the corpus in hand, its passages that have a vector, and all of them.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// What to measure.
#[derive(Clone, Debug)]
pub struct RetrievalOptions {
    /// Folder with `2wiki_corpus.json` and its neighbours; those sets are left out when absent.
    pub multihop: Option<PathBuf>,
    /// Folder of the Python documentation's pages; left out when absent.
    pub docs: Option<PathBuf>,
    /// The Free On-line Dictionary of Computing; left out when absent.
    pub foldoc: Option<PathBuf>,
    /// The Metamath database set.mm; left out when absent.
    pub metamath: Option<PathBuf>,
    /// Folder of the embedder.
    pub embedder: PathBuf,
    /// Where the corpora's stores are kept.
    pub cache: PathBuf,
    /// The command, for the results.
    pub command: String,
    /// Seed of training and of the intervals.
    pub seed: u64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// Fewer than two corpora: there is nothing to train on.
    #[error(
        "retrieval is measured on one corpus after training on others, and {0} is there: \
         name the multi-hop sets and the documentation"
    )]
    TooFew(usize),
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is no such set")]
    Parse {
        /// The file.
        path: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A store cannot be opened.
    #[error(transparent)]
    Open(weir_memory::OpenError),
    /// Passages cannot be read in.
    #[error(transparent)]
    Ingest(weir_memory::ingest::IngestError),
    /// A store cannot be read.
    #[error(transparent)]
    Memory(weir_memory::ReadError),
    /// A store cannot be written.
    #[error(transparent)]
    Write(weir_memory::WriteError),
    /// Passages of the same topic cannot be joined.
    #[error(transparent)]
    Topics(weir_memory::TopicsError),
    /// A question cannot be searched for.
    #[error(transparent)]
    Search(#[from] weir_memory::SearchError),
    /// The embedder cannot be loaded.
    #[error(transparent)]
    Embedder(weir_embed::LoadError),
    /// A text cannot be embedded.
    #[error("cannot embed: {0}")]
    Embed(String),
    /// Nothing could be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network that attention is compared with cannot be computed.
    #[error("cannot compute the graph attention network")]
    Network(#[from] candle_core::Error),
}

impl RetrievalError {
    fn file(path: &Path, source: std::io::Error) -> Self {
        let path = path.display().to_string();
        Self::File { path, source }
    }
}

/// A way to rank passages.
enum Ranking {
    /// The search by words alone.
    Words,
    /// The search by vectors alone.
    Vectors,
    /// The fused search.
    Fused,
    /// Recall with these weights, this far.
    Recall(Box<AttentionWeights>, RecallLimits),
    /// A graph attention network.
    Network(Box<Gat>),
}

/// Rows in the order of reports; the last is what the others are compared with.
const ROWS: [&str; 10] = [
    "BM25",
    "dense",
    "hybrid",
    "PageRank",
    "PageRank with weights by hand",
    "uniform attention",
    "scorer without graph",
    "attention without log p",
    "GATv2",
    "attention",
];

/// Hits that are ranked where no graph is walked: as many as a subgraph has nodes.
const WITHOUT_GRAPH: RecallLimits = RecallLimits {
    seeds: 256,
    hops: 0,
    nodes_max: 256,
};

/// Measures all rows on all corpora.
///
/// # Errors
/// A corpus cannot be read or embedded, or there are fewer than two.
pub fn retrieval(
    options: &RetrievalOptions,
    progress: &mut Progress<'_>,
) -> Result<Results, RetrievalError> {
    let embedder = Embedder::load(&options.embedder).map_err(RetrievalError::Embedder)?;
    let corpora = corpora(options, &embedder, progress)?;
    if corpora.len() < 2 {
        return Err(RetrievalError::TooFew(corpora.len()));
    }
    let mut measured = Vec::new();
    let mut notes = Vec::new();
    for (place, corpus) in corpora.iter().enumerate() {
        let others: Vec<_> = (corpora.iter().enumerate())
            .filter(|(other, _)| *other != place)
            .map(|(_, other)| (&other.memory, other.questions.as_slice()))
            .collect();
        let rankings = rankings(&others, options.seed, &mut notes, corpus.name)?;
        let mut rows = Vec::new();
        for (name, ranking) in ROWS.iter().zip(&rankings) {
            let done = rows.len();
            progress(&format!("{} {name}", corpus.name), done, ROWS.len());
            rows.push((*name, measure(corpus, ranking)?));
        }
        measured.push((corpus, rows));
    }
    let mut results = report::report(&measured, options);
    results.notes.extend(notes);
    Ok(results)
}

/// Weights that are trained on all corpora, for other memories than these, with shares as even as those of the weights set by
/// hand: routers were trained on what those recall.
///
/// # Errors
/// A corpus cannot be read or embedded, or there is none.
pub fn weights(
    options: &RetrievalOptions,
    progress: &mut Progress<'_>,
) -> Result<AttentionWeights, RetrievalError> {
    let embedder = Embedder::load(&options.embedder).map_err(RetrievalError::Embedder)?;
    let corpora = corpora(options, &embedder, progress)?;
    let sets = corpora.iter();
    let sets = sets.map(|corpus| (&corpus.memory, corpus.questions.as_slice()));
    let sets: Vec<_> = sets.collect();
    let (weights, report) = train(&sets, &told(options.seed, Frozen::Nothing), &mut |at| {
        progress("training", at.done, at.total);
    })?;
    let by_hand = entropy(&corpora, &AttentionWeights::by_hand())?;
    let (mut even, mut sharp) = (1.0 / SHARPER_MAX, SHARPER_MAX);
    for _ in 0..BISECTIONS {
        let middle = f64::sqrt(even * sharp);
        let sharper = weights.clone().sharpened(middle);
        if entropy(&corpora, &sharper)? > by_hand {
            even = middle;
        } else {
            sharp = middle;
        }
    }
    let names = corpora.iter();
    let names =
        names.map(|corpus| format!("{} ({} questions)", corpus.name, corpus.questions.len()));
    let names: Vec<String> = names.collect();
    let sharpened = f64::sqrt(even * sharp);
    Ok(weights.sharpened(sharpened).named(format!(
        "{}, seed {}; {} without a gold passage within reach; held out in turn, loss {:.3} after {:.3}; sharpened by {sharpened:.3}",
        names.join(", "),
        options.seed,
        report.unreachable,
        report.loss,
        report.loss_before
    )))
}

/// How much more even, or sharper, shares may be made.
const SHARPER_MAX: f64 = 16.0;
/// Halvings of that range.
const BISECTIONS: usize = 8;

/// Mean entropy of what these weights recall.
fn entropy(corpora: &[Corpus], weights: &AttentionWeights) -> Result<f64, RetrievalError> {
    let mut entropies = Vec::new();
    for corpus in corpora {
        for question in &corpus.questions {
            let found = corpus.memory.search(&question.query)?;
            let limits = RecallLimits::default();
            let recall = (corpus.memory).recall_with(weights, &question.query, &found, &limits);
            let recall = recall.map_err(RetrievalError::Memory)?;
            entropies.push(f64::from(recall.entropy));
        }
    }
    Ok(mean(&entropies))
}

fn corpora(
    options: &RetrievalOptions,
    embedder: &Embedder,
    progress: &mut Progress<'_>,
) -> Result<Vec<Corpus>, RetrievalError> {
    let cache = &options.cache;
    std::fs::create_dir_all(cache).map_err(|error| RetrievalError::file(cache, error))?;
    let mut shelf = corpora::Shelf {
        cache,
        vectors: Vectors::open(cache, embedder)?,
    };
    let mut all = Vec::new();
    if let Some(folder) = &options.multihop {
        for (name, set) in [("2wiki-101", "2wiki"), ("musique-100", "musique")] {
            all.push(corpora::multihop(&mut shelf, name, set, folder, progress)?);
        }
    }
    if let Some(folder) = &options.docs {
        all.push(corpora::python_docs(&mut shelf, folder, progress)?);
    }
    if let Some(file) = &options.foldoc {
        all.push(corpora::foldoc(&mut shelf, file, progress)?);
    }
    if let Some(file) = &options.metamath {
        all.push(corpora::metamath(&mut shelf, file, progress)?);
    }
    Ok(all)
}

fn told(seed: u64, frozen: Frozen) -> TrainOptions {
    TrainOptions {
        seed,
        frozen,
        ..TrainOptions::default()
    }
}

/// The rankings of [`ROWS`], trained on `others`.
fn rankings(
    others: &[(&Memory, &[LabelledQuestion])],
    seed: u64,
    notes: &mut Vec<String>,
    corpus: &str,
) -> Result<Vec<Ranking>, RetrievalError> {
    let limits = RecallLimits::default();
    let recall = |weights, limits| Ranking::Recall(Box::new(weights), limits);
    let mut all = vec![
        Ranking::Words,
        Ranking::Vectors,
        Ranking::Fused,
        recall(AttentionWeights::pagerank(), limits),
        recall(AttentionWeights::by_hand(), limits),
    ];
    let wide: Vec<(&Memory, Vec<LabelledQuestion>)> = (others.iter())
        .map(|(memory, questions)| (*memory, questions.iter().map(without_graph).collect()))
        .collect();
    let wide: Vec<_> = (wide.iter())
        .map(|(memory, questions)| (*memory, questions.as_slice()))
        .collect();
    for (frozen, limits) in [
        (Frozen::Edges, limits),
        (Frozen::Attention, WITHOUT_GRAPH),
        (Frozen::Attention, limits),
    ] {
        let sets = if limits == WITHOUT_GRAPH {
            &wide
        } else {
            others
        };
        let told = TrainOptions {
            limits,
            ..told(seed, frozen)
        };
        all.push(recall(train(sets, &told, &mut |_| {})?.0, limits));
    }
    let started = Instant::now();
    all.push(Ranking::Network(Box::new(Gat::train(others, seed)?)));
    let network_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let (weights, report) = train(others, &told(seed, Frozen::Nothing), &mut |_| {})?;
    notes.push(format!(
        "{corpus}: attention was trained in {:.1} s (GATv2 in {network_s:.1} s) on {} questions of the other corpora ({} \
         without gold in their subgraph); {} layers, pull {}, {} epochs, held-out loss {:.3} after {:.3}",
        started.elapsed().as_secs_f64(),
        report.questions,
        report.unreachable,
        report.layers,
        report.pull,
        report.epochs,
        report.loss,
        report.loss_before
    ));
    all.push(recall(weights, limits));
    Ok(all)
}

/// A question with all hits that a scorer without graph ranks.
fn without_graph(question: &LabelledQuestion) -> LabelledQuestion {
    let mut question = question.clone();
    question.query.k = WITHOUT_GRAPH.seeds;
    question
}

/// Ranks for every question of a corpus.
fn measure(corpus: &Corpus, ranking: &Ranking) -> Result<Measured, RetrievalError> {
    let mut measured = Measured::default();
    for question in &corpus.questions {
        let started = Instant::now();
        let ranked = ranked(&corpus.memory, &question.query, ranking)?;
        measured.seconds.push(started.elapsed().as_secs_f64());
        for (k, shares) in [
            (5, &mut measured.at_5),
            (10, &mut measured.at_10),
            (ranked.len(), &mut measured.at_all),
        ] {
            shares.push(recall_at(&ranked, &question.gold, k));
        }
    }
    Ok(measured)
}

fn ranked(
    memory: &Memory,
    query: &Query,
    ranking: &Ranking,
) -> Result<Vec<NodeId>, RetrievalError> {
    let mut query = query.clone();
    match ranking {
        Ranking::Words => query.vector = None,
        Ranking::Vectors => query.text.clear(),
        Ranking::Network(gat) => return Ok(gat.ranked(&Asked::of(memory, &query)?)?),
        Ranking::Recall(_, limits) => query.k = limits.seeds,
        Ranking::Fused => {}
    }
    let found = memory.search(&query)?;
    Ok(match ranking {
        Ranking::Recall(weights, limits) => {
            let recall = memory.recall_with(weights, &query, &found, limits);
            let recall = recall.map_err(RetrievalError::Memory)?;
            recall.nodes.iter().map(|node| node.id).collect()
        }
        _ => found.hits.iter().map(|hit| hit.id).collect(),
    })
}

/// Share of the gold nodes among the first `k`.
fn recall_at(ranked: &[NodeId], gold: &[NodeId], k: usize) -> f64 {
    let first = &ranked[..k.min(ranked.len())];
    let found = gold.iter().filter(|id| first.contains(id)).count();
    found as f64 / gold.len().max(1) as f64
}
