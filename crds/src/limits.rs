//! What a gateway may take, keep and tell: bounds on requests, answers that are given again, and traces.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use crate::units::{ByteSize, Duration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How answers are kept. Routed ones only, and none that calls tools or is sampled at a temperature above 0.5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerCache {
    /// Answers that each process keeps, of up to 4 KiB; a longer one counts as several. The one that is asked for least goes
    /// first.
    #[serde(default = "AnswerCache::default_entries_max")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub entries_max: u32,
    /// How long an answer is given again.
    #[serde(default = "AnswerCache::default_ttl")]
    pub ttl: Duration,
    /// Whether an answer is also given to a question that differs in nothing but how it is written: a greeting, a "please", the
    /// mark at its end, the case of its first word. Every source of the answer must be recalled for it too, unchanged.
    #[serde(default)]
    pub near_duplicates: bool,
}

/// A collector of OpenTelemetry, and how much it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    /// Address of its OTLP over HTTP, without `/v1/traces`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?#]+(/[^?#]*)?$') && !self.matches('/v1/traces/?$')")
        .message("must be the address of a collector without user, query and /v1/traces: write for example http://otel-collector.monitoring:4318"))]
    pub endpoint: String,
    /// Share of the requests that are traced. A request whose client sends `traceparent` is traced where that says so.
    #[serde(default = "Traces::default_sample_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
}

/// Bounds on size, time and concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// A request that takes longer ends with 504.
    #[serde(default = "Limits::default_request_timeout")]
    pub request_timeout: Duration,
    /// A larger body ends with 413.
    #[serde(default = "Limits::default_body_max")]
    pub body_max: ByteSize,
    /// Requests worked on at the same time.
    #[serde(default = "Limits::default_in_flight_max")]
    #[schemars(range(min = 1, max = 100_000))]
    pub in_flight_max: u32,
    /// Requests that may wait; more end with 429.
    #[serde(default = "Limits::default_queue_max")]
    #[schemars(range(min = 0, max = 100_000))]
    pub queue_max: u32,
}

impl AnswerCache {
    fn default_entries_max() -> u32 {
        10_000
    }

    fn default_ttl() -> Duration {
        Duration::from_seconds(3600)
    }
}

impl Traces {
    fn default_sample_ratio() -> f64 {
        1.0
    }
}

impl Limits {
    fn default_request_timeout() -> Duration {
        Duration::from_seconds(60)
    }

    fn default_body_max() -> ByteSize {
        ByteSize::from_bytes(1 << 20)
    }

    fn default_in_flight_max() -> u32 {
        512
    }

    fn default_queue_max() -> u32 {
        1024
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Self::default_request_timeout(),
            body_max: Self::default_body_max(),
            in_flight_max: Self::default_in_flight_max(),
            queue_max: Self::default_queue_max(),
        }
    }
}
