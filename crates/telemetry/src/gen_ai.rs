//! Names of span attributes, events and metrics from OpenTelemetry's semantic conventions, as far as we
//! use them (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>, status: development).
//!
//! `gen_ai.provider.name` replaced `gen_ai.system`. Both are sent, since dashboards still ask for the old.

/// What was done: `chat`, `embeddings`.
pub const OPERATION_NAME: &str = "gen_ai.operation.name";
/// Who served the model, for example `openai`.
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
/// The older name of [`PROVIDER_NAME`].
pub const SYSTEM: &str = "gen_ai.system";
/// The model asked for.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// The model that answered, as the provider names it.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// The provider's id of the answer.
pub const RESPONSE_ID: &str = "gen_ai.response.id";
/// Why the model stopped, one text for each choice.
pub const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds from the request to the first part of a streamed answer.
pub const RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Whether a streamed answer was asked for.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// The limit on the answer's tokens that was asked for.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// The sampling temperature that was asked for.
pub const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
/// The nucleus sampling that was asked for.
pub const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
/// Tokens of the prompt, cached ones included.
pub const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens of the answer, reasoning included.
pub const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// The part of the input that the provider read from its cache.
pub const USAGE_CACHE_READ_INPUT_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// The part of the output that was reasoning.
pub const USAGE_REASONING_OUTPUT_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// `input` or `output`, on [`METRIC_TOKEN_USAGE`].
pub const TOKEN_TYPE: &str = "gen_ai.token.type";
/// The conversation or session.
pub const CONVERSATION_ID: &str = "gen_ai.conversation.id";

/// The kind of failure, of low cardinality: a status code or a short name.
pub const ERROR_TYPE: &str = "error.type";
/// The host that was called, or that was asked for.
pub const SERVER_ADDRESS: &str = "server.address";
/// Its port.
pub const SERVER_PORT: &str = "server.port";
/// The address of the client.
pub const CLIENT_ADDRESS: &str = "client.address";
/// The method of an HTTP request.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// How often this request was sent before, on the span of one attempt.
pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
/// The status of an HTTP answer.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// The route that matched, with its parameters by name.
pub const HTTP_ROUTE: &str = "http.route";
/// `http` or `https`.
pub const URL_SCHEME: &str = "url.scheme";
/// The path that was asked for.
pub const URL_PATH: &str = "url.path";
/// `1.1` or `2`.
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
/// What the client calls itself.
pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";

/// The attributes that appear as labels of metrics.
pub(crate) const LABELS: &[&str] = &[
    OPERATION_NAME,
    PROVIDER_NAME,
    SYSTEM,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    REQUEST_STREAM,
    TOKEN_TYPE,
    ERROR_TYPE,
    SERVER_ADDRESS,
    SERVER_PORT,
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    URL_SCHEME,
    NETWORK_PROTOCOL_VERSION,
];

/// Histogram: tokens of a call, by [`TOKEN_TYPE`].
pub const METRIC_TOKEN_USAGE: &str = "gen_ai.client.token.usage";
/// Histogram: seconds of a call to a provider.
pub const METRIC_OPERATION_DURATION: &str = "gen_ai.client.operation.duration";
/// Histogram: seconds to the first part of a provider's streamed answer.
pub const METRIC_TIME_TO_FIRST_CHUNK: &str = "gen_ai.client.operation.time_to_first_chunk";
/// Histogram: seconds between parts of a provider's streamed answer.
pub const METRIC_TIME_PER_OUTPUT_CHUNK: &str = "gen_ai.client.operation.time_per_output_chunk";

/// The buckets that the conventions prescribe for [`METRIC_TOKEN_USAGE`]: powers of four.
pub const TOKEN_BUCKETS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// The buckets that the conventions prescribe for [`METRIC_OPERATION_DURATION`], in seconds.
pub const OPERATION_DURATION_BUCKETS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// The metrics that have a dotted name and a unit of their own over OTLP.
pub(crate) const METRICS: &[(&str, &str)] = &[
    (METRIC_TOKEN_USAGE, "{token}"),
    (METRIC_OPERATION_DURATION, "s"),
    (METRIC_TIME_TO_FIRST_CHUNK, "s"),
    (METRIC_TIME_PER_OUTPUT_CHUNK, "s"),
    ("gen_ai.server.request.duration", "s"),
    ("gen_ai.server.time_to_first_token", "s"),
    ("gen_ai.server.time_per_output_token", "s"),
    ("http.server.request.duration", "s"),
    ("http.server.active_requests", "{request}"),
    ("http.server.request.body.size", "By"),
    ("http.server.response.body.size", "By"),
    ("rodger.query.duration", "s"),
    ("rodger.escalation.rate", "1"),
    ("rodger.customer.satisfaction", "1"),
];
