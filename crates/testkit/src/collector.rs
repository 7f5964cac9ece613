//! A fake OTLP/HTTP collector: takes traces and metrics in protobuf and keeps them for the test.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::server::{Gate, Server};
use crate::wire::{self, Body, Headers, Inbound};

#[derive(Debug)]
struct State {
    status: u16,
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    resources: Vec<Resource>,
    headers: Vec<Headers>,
    refused: Vec<String>,
}

/// A fake collector on 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Collector {
    server: Server,
    state: Arc<watch::Sender<State>>,
}

impl Collector {
    /// Starts on a free port.
    pub fn start() -> Collector {
        let state = Arc::new(watch::Sender::new(State {
            status: 200,
            spans: Vec::new(),
            metrics: Vec::new(),
            resources: Vec::new(),
            headers: Vec::new(),
            refused: Vec::new(),
        }));
        let shared = state.clone();
        let server =
            Server::start("testkit-collector", move |stream, gate| serve(stream, gate, shared.clone()));
        Collector { server, state }
    }

    /// The OTLP endpoint: `http://127.0.0.1:PORT`; traces go to `/v1/traces` under it, metrics to `/v1/metrics`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Answers exports with this status from now on; what arrives with a status other than 200 is not kept.
    pub fn set_status(&self, status: u16) {
        self.state.send_modify(|state| state.status = status);
    }

    /// Refuses connections and closes those that are idle.
    pub fn stop_listening(&self) {
        self.server.listen(false);
    }

    /// Accepts connections again, on the same port.
    pub fn resume_listening(&self) {
        self.server.listen(true);
    }

    /// The spans so far, in order of arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.state.borrow().spans.clone()
    }

    /// The metrics so far, in order of arrival: each export adds its own.
    pub fn metrics(&self) -> Vec<Metric> {
        self.state.borrow().metrics.clone()
    }

    /// The resources of all exports so far.
    pub fn resources(&self) -> Vec<Resource> {
        self.state.borrow().resources.clone()
    }

    /// The headers of each export so far, those refused by [`Collector::set_status`] included.
    pub fn headers(&self) -> Vec<Vec<(String, String)>> {
        self.state.borrow().headers.clone()
    }

    /// Why exports were refused: a wrong path, content type or encoding.
    pub fn refused(&self) -> Vec<String> {
        self.state.borrow().refused.clone()
    }

    /// Waits until `n` spans have arrived in all, and returns them. Panics after `timeout`.
    pub async fn wait_for_spans(&self, n: usize, timeout: Duration) -> Vec<Span> {
        self.wait(timeout, &format!("{n} spans"), |state| state.spans.len() >= n).await;
        self.spans()
    }

    /// Waits until a metric of this name has arrived, and returns the latest. Panics after `timeout`.
    pub async fn wait_for_metric(&self, name: &str, timeout: Duration) -> Metric {
        let named = |metric: &&Metric| metric.name == name;
        self.wait(timeout, &format!("metric {name}"), |state| state.metrics.iter().any(|m| named(&m))).await;
        self.metrics().iter().rfind(named).cloned().expect("the metric has arrived")
    }

    /// Waits until `n` exports have arrived in all, good or refused. Panics after `timeout`.
    pub async fn wait_for_exports(&self, n: usize, timeout: Duration) {
        self.wait(timeout, &format!("{n} exports"), |state| state.headers.len() >= n).await;
    }

    async fn wait(&self, timeout: Duration, what: &str, done: impl FnMut(&State) -> bool) {
        let mut changes = self.state.subscribe();
        let reached = tokio::time::timeout(timeout, changes.wait_for(done)).await.is_ok();
        let state = self.state.borrow();
        let names: Vec<&str> = state.spans.iter().map(|span| span.name.as_str()).collect();
        assert!(reached, "waited {timeout:?} for {what}; spans {names:?}, refused {:?}", state.refused);
    }
}

/// An attribute as text: strings as they are, numbers and booleans in their usual form.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref().map(text)
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}

async fn serve(mut stream: TcpStream, mut gate: Gate, state: Arc<watch::Sender<State>>) {
    let mut inbound = Inbound::default();
    loop {
        let read = tokio::select! {
            _ = async { gate.wait_for(|open| !open).await.is_ok() } => return,
            read = read_export(&mut inbound, &mut stream) => read,
        };
        let Ok(Some((path, headers, body))) = read else { return };
        let mut status = 200;
        state.send_modify(|state| {
            status = state.status;
            if status == 200
                && let Err(why) = keep(state, &path, &headers, &body)
            {
                status = 400;
                state.refused.push(why);
            }
            state.headers.push(headers);
        });
        // The answer is an empty protobuf message: everything was accepted, or the status says the rest.
        let answer = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_export(
    inbound: &mut Inbound,
    stream: &mut TcpStream,
) -> io::Result<Option<(String, Headers, Vec<u8>)>> {
    let Some(head) = inbound.head(stream).await? else { return Ok(None) };
    let mut body = Vec::new();
    inbound.body(stream, &mut Body::of(&head.headers, Body::Done)?, &mut body).await?;
    let path = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Some((path, head.headers, body)))
}

fn keep(state: &mut State, path: &str, headers: &[(String, String)], body: &[u8]) -> Result<(), String> {
    match wire::header(headers, "content-type") {
        Some("application/x-protobuf") => {}
        other => return Err(format!("content-type {other:?}")),
    }
    match path {
        "/v1/traces" => {
            let export = ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string())?;
            for group in export.resource_spans {
                state.resources.extend(group.resource);
                state.spans.extend(group.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        "/v1/metrics" => {
            let export = ExportMetricsServiceRequest::decode(body).map_err(|error| error.to_string())?;
            for group in export.resource_metrics {
                state.resources.extend(group.resource);
                state.metrics.extend(group.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
            }
        }
        other => return Err(format!("path {other:?}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
