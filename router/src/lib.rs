//! The control circuit: what a request has learned so far goes in, two decisions come out.
//!
//! One hidden state reads a request step by step (`query`, `search`, `recall`, `answer`) and
//! decides twice: before dispatch which recall, model and context to use ([`Router::choose`]), and
//! after the answer whether to accept it or to ask a bigger model ([`Router::judge`]).
//!
//! This crate is pure: no clock, no network, no files, no thread. Everything a decision depends on
//! is an argument, so that a log row and an artifact reproduce it. Read [`features`] for what goes
//! in, [`cell`] and [`network`] for the arithmetic, [`choose`] and [`judge`] for the decisions,
//! [`guard`] for what is promised of small answers, [`novelty`] and [`drift`] for whether requests are like those of training,
//! [`artifact`] for the file, [`train`] for how its numbers come about, [`ope`] for what another artifact would have been
//! worth on a log, [`gate`] for whether it takes over.

pub mod arms;
pub mod artifact;
pub mod calibrate;
pub mod cell;
pub mod choose;
pub mod drift;
pub mod features;
pub mod gate;
pub mod guard;
pub mod inspect;
pub mod judge;
pub mod linear;
pub mod network;
pub mod novelty;
pub mod ope;
pub mod principal;
mod router;
pub mod schema;
pub mod statistics;
pub mod train;
pub mod words;

pub use arms::{Arm, ArmTable, RecallMode, SamplingClass};
pub use artifact::{Artifact, ArtifactError, Manifest};
pub use choose::{Choice, ChoiceInputs, ChooseError};
pub use features::{AnswerFacts, Finish, QueryFacts, RecallFacts, SearchFacts};
pub use inspect::{ArmHead, Inspection};
pub use judge::{JudgeError, Verdict, VerdictInputs};
pub use router::{Router, RouterError, State};
pub use schema::{FeatureSchema, FeatureSpec, Step, StepFeatures};
