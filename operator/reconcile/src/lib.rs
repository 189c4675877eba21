//! Pure reconcile steps: resources in, plan and status out.
