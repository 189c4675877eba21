//! The operator: watches, apply, status, lease and control stream.
