//! Collecting outcomes, graders, the four systems, reports.
