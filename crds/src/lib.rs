//! The Kubernetes API of Weir: types, CEL rules, offline validation.
