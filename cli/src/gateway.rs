//! `weir gateway`: the gateway of a cluster. Words into options, logs as JSON; what it does is `weir-gateway-cluster`.

use crate::fail::Failure;
use crate::process_log::{self, LogFormat};
use clap::{Args, ValueHint};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use weir_gateway::Stop;
use weir_gateway_cluster::{Operator, Options, bind};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir gateway --plan /etc/weir/plan/plan.json --tls /etc/weir/tls \
    --operator https://weir-operator.weir-system.svc:7443 --state /var/lib/weir --listen 0.0.0.0:8080\n  \
    weir gateway --plan plan.json --listen 127.0.0.1:8080 --log text    # one plan, no operator\n\n\
    The mounted plan, or the last one that was served when that is newer, is served at once, also while the operator is\n\
    away: /readyz, the metric weir_plan_stale and the header x-weir-plan-stale say so then. Router artifacts are looked\n\
    for beside the plan as <sha256>.onnx, then under --state, then asked of the operator.\n\n\
    SIGTERM drains: /readyz says no, requests are accepted for --drain-lead seconds more, those in flight finish. A\n\
    second one ends at once. The pod's grace period must exceed --drain-lead and the gateway's request timeout together.")]
pub(crate) struct GatewayArgs {
    /// The mounted plan
    #[arg(
        long,
        value_name = "FILE",
        env = "WEIR_PLAN",
        required_unless_present = "operator",
        value_hint = ValueHint::FilePath
    )]
    plan: Option<PathBuf>,
    /// Address of the operator's control stream; without one the plan is served as it is
    #[arg(
        long,
        value_name = "URL",
        env = "WEIR_OPERATOR",
        requires = "tls",
        value_parser = https,
        value_hint = ValueHint::Url
    )]
    operator: Option<String>,
    /// Folder with ca.crt, tls.crt and tls.key; they are read again when they change
    #[arg(long, value_name = "FOLDER", env = "WEIR_TLS", value_hint = ValueHint::DirPath)]
    tls: Option<PathBuf>,
    /// Folder of the last good plan, router artifacts and, with logs.sink file, decisions
    #[arg(long, value_name = "FOLDER", env = "WEIR_STATE", value_hint = ValueHint::DirPath)]
    state: Option<PathBuf>,
    /// Where clients and probes are answered
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Folder with tls.crt and tls.key: clients are answered over HTTPS only; read again when they change
    #[arg(long, value_name = "FOLDER", env = "WEIR_HTTPS", value_hint = ValueHint::DirPath)]
    https: Option<PathBuf>,
    /// Where /metrics is answered instead; /healthz and /readyz are answered there too
    #[arg(long, value_name = "ADDRESS")]
    listen_metrics: Option<SocketAddr>,
    /// Seconds in which requests are still accepted after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain_lead: u64,
    /// Name of the pod, in what the operator is told
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "")]
    pod: String,
    /// json or text, on standard error; WEIR_LOG filters
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "json")]
    log: LogFormat,
}

pub(crate) async fn run(args: GatewayArgs) -> Result<(), Failure> {
    process_log::to_stderr(args.log);
    let stop = Stop::on_signals()?;
    let bound = bind(args.options()).await?;
    let (address, version) = (bound.address()?, env!("CARGO_PKG_VERSION"));
    tracing::info!(%address, version, "a gateway begins");
    bound.run(stop).await?;
    tracing::info!("the gateway has left");
    Ok(())
}

impl GatewayArgs {
    fn options(self) -> Options {
        let operator = self.operator.zip(self.tls);
        Options {
            plan: self.plan,
            operator: operator.map(|(url, tls)| Operator { url, tls }),
            state: self.state,
            listen: self.listen,
            https: self.https,
            listen_metrics: self.listen_metrics,
            drain_lead: Duration::from_secs(self.drain_lead),
            pod: self.pod,
        }
    }
}

fn https(word: &str) -> Result<String, String> {
    if word.starts_with("https://") {
        Ok(word.to_owned())
    } else {
        Err("write https:// and the address: the stream is always encrypted".into())
    }
}
