//! `weir rollout` and its options.

use super::OfGateway;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    pub(crate) command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show which version decides, which one is tried, and what is known of it
    #[command(after_long_help = "Examples:\n  weir rollout status support\n  \
        weir rollout status support -n demo --output json\n\n\
        A rollout begins when router.version of the gateway changes, and rolls back when it is changed back.")]
    Status(OfGateway),
    /// Hold the weight; a rollback may still happen
    #[command(after_long_help = "Example:\n  weir rollout pause support -n demo")]
    Pause(OfGateway),
    /// Go on by the evidence
    #[command(after_long_help = "Example:\n  weir rollout continue support -n demo")]
    Continue(OfGateway),
    /// Make the candidate active now, unless the evidence has decided against it
    #[command(after_long_help = "Example:\n  weir rollout promote support -n demo")]
    Promote(OfGateway),
    /// Take the candidate out now
    #[command(after_long_help = "Example:\n  weir rollout abort support -n demo\n\n\
        The version is tried again after router.version has named the active one, or when its RouterRollout is deleted.")]
    Abort(OfGateway),
}
