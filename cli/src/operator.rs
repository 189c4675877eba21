//! `weir operator`: keeps a cluster as its resources say, until it is told to end.

use crate::fail::Failure;
use crate::process_log::{self, LogFormat};
use clap::Args;
use std::net::SocketAddr;
use weir_gateway::Stop;
use weir_operator::Options;

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    weir operator --image registry.example.com/weir:0.1.0            # in a pod, every namespace\n  \
    weir operator --image weir:dev --namespace demo                  # one namespace, with a Role instead of a ClusterRole\n  \
    KUBECONFIG=~/.kube/config POD_NAMESPACE=weir-system POD_NAME=me POD_IP=127.0.0.1 \\\n    \
    weir operator --image weir:dev --log text                      # outside of a cluster, for development\n\n\
    The cluster is found as kubectl finds it: KUBECONFIG, ~/.kube/config, then the pod's service account. Several\n\
    operators may run: one leads, the others pass gateways on to it and take over when it ends. SIGTERM closes the streams\n\
    and gives the lease back; a second one ends at once. /metrics, /healthz and /readyz are at --listen-metrics.")]
pub(crate) struct OperatorArgs {
    /// Look at this namespace only [default: every namespace]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Image of this binary, for the gateways, memories and downloads that it starts
    #[arg(long, value_name = "IMAGE", env = "WEIR_IMAGE")]
    image: String,
    /// Image of llama.cpp's server, for pools that name none
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "ghcr.io/ggml-org/llama.cpp:server"
    )]
    llama_cpp_image: String,
    /// Image of vLLM, for pools that name none
    #[arg(long, value_name = "IMAGE", default_value = "vllm/vllm-openai:latest")]
    vllm_image: String,
    /// Where the control stream listens
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7443")]
    listen_control: SocketAddr,
    /// Where metrics and health are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    listen_metrics: SocketAddr,
    /// Service in front of the operators' control streams, in their namespace
    #[arg(long, value_name = "NAME", default_value = "weir-operator")]
    service: String,
    /// Lease that decides who leads
    #[arg(long, value_name = "NAME", default_value = "weir-operator")]
    lease: String,
    /// A variable for every process that connects to the outside, for example HTTPS_PROXY=http://proxy:3128
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// A file of certificate authorities that downloads trust beside the usual ones; it may change
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    ca_bundle: Option<std::path::PathBuf>,
    /// A host that router artifacts may be brought from, with its port if it is not 443 [default: none]
    #[arg(long = "artifact-host", value_name = "HOST", value_parser = host)]
    artifact_hosts: Vec<String>,
    /// Objects worked on at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    workers: usize,
    /// How the log is written
    #[arg(long, value_enum, default_value = "json")]
    log: LogFormat,
    /// Namespace that the operator runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "weir-system"
    )]
    pod_namespace: String,
    /// Name of this process
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAME",
        default_value = "weir-operator"
    )]
    pod_name: String,
    /// Address at which other operators reach this one
    #[arg(long, value_name = "IP", env = "POD_IP", default_value = "127.0.0.1")]
    pod_ip: std::net::IpAddr,
}

pub(crate) async fn run(args: OperatorArgs) -> Result<(), Failure> {
    process_log::to_stderr(args.log);
    let stop = Stop::default();
    stop.follow_signals(|_| tracing::info!("ending"))?;
    let operator = weir_operator::run(options(args), stop.drain.clone());
    if let Some(ended) = stop.now.run_until_cancelled(operator).await {
        ended?;
    }
    Ok(())
}

fn options(args: OperatorArgs) -> Options {
    let advertised = SocketAddr::new(args.pod_ip, args.listen_control.port());
    Options {
        watch: args.namespace,
        namespace: args.pod_namespace,
        pod: args.pod_name,
        listen_control: args.listen_control,
        listen_metrics: args.listen_metrics,
        advertise: advertised.to_string(),
        service: args.service,
        lease: args.lease,
        image: args.image,
        llama_cpp_image: args.llama_cpp_image,
        vllm_image: args.vllm_image,
        ca_bundle: args.ca_bundle,
        artifact_hosts: args.artifact_hosts,
        environment: args.environment.into_iter().collect(),
        workers: args.workers,
    }
}

fn host(text: &str) -> Result<String, String> {
    let is_host = |c: char| c.is_ascii_alphanumeric() || ['.', '-', ':', '[', ']'].contains(&c);
    if text.is_empty() || !text.chars().all(is_host) {
        return Err("write HOST or HOST:PORT, without https:// and without a path".into());
    }
    Ok(text.to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn parse(words: &[&str]) -> Result<OperatorArgs, clap::Error> {
        let all = ["weir", "operator"].iter().chain(words);
        match Cli::try_parse_from(all)?.command {
            Command::Operator(args) => Ok(*args),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn others_reach_an_operator_at_its_pods_address_and_the_port_it_listens_at() {
        let args = [
            "--image",
            "weir:1",
            "--pod-ip",
            "fd00::7",
            "--listen-control",
            "[::]:9443",
        ];
        let options = options(parse(&args).unwrap());
        assert_eq!(options.advertise, "[fd00::7]:9443");
        assert_eq!(options.watch, None);
    }

    #[test]
    fn a_host_of_artifacts_is_no_address() {
        let hosts = ["--artifact-host", "a.example", "--artifact-host", "b:8443"];
        let args = [&["--image", "weir:1"][..], &hosts].concat();
        let options = options(parse(&args).unwrap());
        assert_eq!(options.artifact_hosts, ["a.example", "b:8443"]);
        for wrong in ["https://a.example", "a/b", "", "user@a"] {
            assert!(
                parse(&["--image", "weir:1", "--artifact-host", wrong]).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_variable_without_a_value_is_refused() {
        assert!(parse(&["--image", "weir:1", "--env", "HTTPS_PROXY"]).is_err());
        let args = parse(&["--image", "weir:1", "--env", "A=b=c"]).unwrap();
        assert_eq!(options(args).environment["A"], "b=c");
    }
}
