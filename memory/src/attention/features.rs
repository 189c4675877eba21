//! Features: what attention knows about a seed, an edge and a node.
//!
//! The names here are the names in a file of weights. Adding one is compatible, since a file that
//! does not name it gives it no weight; what a feature means never changes. `recall/view.rs`
//! computes them.

/// Declares an enum of features with its names, in one order.
macro_rules! features {
    ($(#[$doc:meta])* $kind:ident, $count:ident, $($(#[$feature:meta])* $variant:ident => $name:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $kind { $($(#[$feature])* $variant),+ }

        impl $kind {
            /// Names in files of weights, in the order of the features.
            pub(crate) const NAMES: &[&str] = &[$($name),+];
        }

        /// How many there are.
        pub(crate) const $count: usize = $kind::NAMES.len();
    };
}

features! {
    /// What is known about a hit that becomes a seed.
    SeedFeature, SEED,
    /// Strength in the search: `z(cosine) + w z(BM25)`.
    Strength => "strength",
    /// BM25, in standard deviations of the seeds.
    Words => "words",
    /// Share of the title's words that the question has.
    TitleInQuestion => "title_in_question",
    /// Share of the question's words, by idf, that the title has.
    QuestionInTitle => "question_in_title",
    /// 1 where the question has all words of the title: it names the node.
    Named => "named",
    /// The same where the text asks. A question is answered by what it names too; a text that tells something is not about
    /// the names in it.
    NamedInQuestion => "named_in_question",
}

features! {
    /// What is known about an edge, walked from one end to the other.
    EdgeFeature, EDGE,
    /// Share of the question's words, by idf, in the sentence that carries the edge. The sentence
    /// has no vector: the store would hold one for each edge and the embedder make it, and it is
    /// names and rare words that tell one sentence of a passage from the next.
    Evidence => "evidence",
    /// Cosine of question and target.
    TargetCosine => "target_cosine",
    /// Cosine of the two ends.
    EndsCosine => "ends_cosine",
    /// Logarithm of the edge's weight.
    LogWeight => "log_weight",
    /// Minus the logarithm of 1 + days that the edge is older than the newest node.
    Recency => "recency",
    /// How sure the edge's maker was.
    Confidence => "confidence",
    /// Logarithm of the number of edges at the target: damps hubs.
    LogTargetDegree => "log_target_degree",
    /// Cosine of the target and what is left of the question without its part along the source.
    RestCosine => "rest_cosine",
    /// Share of the question's words, by idf, that the target has and the source has not.
    NewWords => "new_words",
    /// Share of the question's words, by idf, that source and target both have.
    SharedWords => "shared_words",
    /// Share of the question's words, by idf, that the sentence has and the titles of both ends have not: what it says
    /// beyond their names.
    EvidenceBeyondNames => "evidence_beyond_names",
}

features! {
    /// What is known about a node once weight has spread.
    NodeFeature, NODE,
    /// Logarithm of its weight after the last layer.
    LogAttention => "log_attention",
    /// Logarithm of the weight that came along edges in the last layer.
    LogReceived => "log_received",
    /// Cosine to the question, in standard deviations of the subgraph.
    Cosine => "cosine",
    /// BM25, in standard deviations of the subgraph.
    Words => "words",
    /// Share of the title's words that the question has.
    TitleInQuestion => "title_in_question",
    /// Share of the question's words, by idf, that the title has.
    QuestionInTitle => "question_in_title",
    /// Share of the question's words, by idf, that the text has and the strongest seed has not.
    NewWords => "new_words",
    /// Cosine to what is left of the question without its part along the strongest seed, in standard
    /// deviations of the subgraph.
    RestCosine => "rest_cosine",
    /// Logarithm of 1 + edges at the node.
    LogDegree => "log_degree",
    /// Hops from the nearest seed.
    Depth => "depth",
    /// Minus the logarithm of 1 + days that it is older than the newest node.
    Recency => "recency",
    /// 1 for a memory.
    Memory => "memory",
    /// 1 for a trace.
    Trace => "trace",
    /// 1 for the result of a tool.
    ToolResult => "tool_result",
    /// 1 for a summary.
    Summary => "summary",
    /// 1 where the question has all words of the title: it names the node.
    Named => "named",
    /// The same where the text asks.
    NamedInQuestion => "named_in_question",
    /// 1 where the text of a node that the question names leads here: by a link, or by this node's title.
    FromNamed => "from_named",
    /// The same where the text asks.
    FromNamedInQuestion => "from_named_in_question",
    /// Of the sentences that lead here from such nodes, the largest [`EdgeFeature::EvidenceBeyondNames`].
    EvidenceOfNamed => "evidence_of_named",
}
