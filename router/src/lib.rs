//! The control circuit: features, FastGRNN, training, artifact, decisions.
