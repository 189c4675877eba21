//! What the operator is started with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything that is decided outside of resources.
#[derive(Clone, Debug)]
pub struct Options {
    /// The one namespace to look at; `None` is every namespace.
    pub watch: Option<String>,
    /// Namespace that the operator runs in.
    pub namespace: String,
    /// Name of this process: its pod's.
    pub pod: String,
    /// Where the control stream listens.
    pub listen_control: SocketAddr,
    /// Where metrics and health are served.
    pub listen_metrics: SocketAddr,
    /// `HOST:PORT` at which other operators reach this one's control stream.
    pub advertise: String,
    /// Name of the Service in front of the control streams.
    pub service: String,
    /// Name of the lease that decides who leads.
    pub lease: String,
    /// Image of this binary, for gateways, memories and downloads.
    pub image: String,
    /// Image of llama.cpp's server, for pools that name none.
    pub llama_cpp_image: String,
    /// Image of vLLM, for pools that name none.
    pub vllm_image: String,
    /// File of certificate authorities that downloads trust beside the usual ones, PEM. It may change meanwhile.
    pub ca_bundle: Option<PathBuf>,
    /// Hosts that router artifacts may be brought from over HTTPS, `HOST` or `HOST:PORT`.
    pub artifact_hosts: Vec<String>,
    /// Variables of every process that connects to the outside, such as `HTTPS_PROXY`.
    pub environment: BTreeMap<String, String>,
    /// Objects worked on at the same time.
    pub workers: usize,
}
