use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry::Value;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{self as common, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use prost::Message;

use super::*;
use crate::budget::Use;
use crate::trace::{ChunkTimes, End, propagation};

fn span(kind: SpanKind, attributes: &[(&'static str, &'static str)]) -> Span {
    let mut span = Span::new(propagation::start(&mut rand::rng()), "GET");
    span.kind = kind;
    span.end = span.start + Duration::from_millis(30);
    span.outcome = End::Complete;
    attributes.iter().for_each(|(key, value)| span.push(key, *value));
    span
}

fn calls(names: MetricNames) -> CallMetrics {
    CallMetrics::new(names, &Budget::unlimited())
}

/// A point as a test reads it: `start` and `time` in nanoseconds, how many values and their sum.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    start: u64,
    time: u64,
    count: u64,
    sum: f64,
    buckets: Vec<u64>,
    exemplars: usize,
}

/// What a backend reads, by metric and attributes: `name{key=value,…}`.
fn read(body: &Bytes) -> BTreeMap<String, Seen> {
    let request = ExportMetricsServiceRequest::decode(body.clone()).unwrap();
    let mut seen = BTreeMap::new();
    for metric in
        request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics).flat_map(|scope| scope.metrics)
    {
        let mut add = |attributes: &[common::KeyValue], point: Seen| {
            let labels: Vec<_> = attributes.iter().map(shown).collect();
            let old = seen.insert(format!("{}{{{}}}", metric.name, labels.join(",")), point);
            assert_eq!(old, None, "a series appears once: {}", metric.name);
        };
        match metric.data.unwrap() {
            Data::Histogram(histogram) => histogram.data_points.iter().for_each(|point| {
                add(
                    &point.attributes,
                    Seen {
                        start: point.start_time_unix_nano,
                        time: point.time_unix_nano,
                        count: point.count,
                        sum: point.sum.unwrap(),
                        buckets: point.bucket_counts.clone(),
                        exemplars: point.exemplars.len(),
                    },
                );
            }),
            Data::Sum(sum) => sum.data_points.iter().for_each(|point| {
                let value = match point.value.unwrap() {
                    number_data_point::Value::AsInt(value) => value as f64,
                    number_data_point::Value::AsDouble(value) => value,
                };
                let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
                add(&point.attributes, Seen { start, time, count: 0, sum: value, buckets: vec![], exemplars: 0 });
            }),
            other => panic!("{other:?}"),
        }
    }
    seen
}

fn shown(attribute: &common::KeyValue) -> String {
    let value = match attribute.value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(yes) => yes.to_string(),
        other => panic!("{other:?}"),
    };
    format!("{}={value}", attribute.key)
}

fn encoded(calls: &CallMetrics, temporality: Temporality) -> Vec<(Bytes, Cursor)> {
    calls.collect();
    let (mut at, mut all) = (Cursor::default(), Vec::new());
    while let Some((body, next)) = calls.encode(at, &Resource::new(&[]), temporality, SystemTime::now()) {
        at = next;
        all.push((body, next));
    }
    all
}

/// Everything since the start.
fn totals(calls: &CallMetrics) -> BTreeMap<String, Seen> {
    encoded(calls, Temporality::Cumulative).iter().flat_map(|(body, _)| read(body)).collect()
}

/// `name{…} count sum` of every series after one span.
fn counted(names: MetricNames, span: Span) -> Vec<String> {
    let calls = calls(names);
    calls.fold(&[span], &Metrics::default());
    totals(&calls).into_iter().map(|(series, seen)| format!("{series} {} {}", seen.count, seen.sum)).collect()
}

fn with<const N: usize>(mut span: Span, attributes: [(&'static str, Value); N]) -> Span {
    attributes.into_iter().for_each(|(key, value)| span.push(key, value));
    span
}

/// A plain HTTP request as `stack` records it.
fn http(kind: SpanKind) -> Span {
    let attributes = [
        ("http.request.method", "POST"),
        ("server.address", "api.example"),
        ("user_agent.original", "agent/1"),
        ("network.protocol.version", "1.1"),
        ("network.peer.address", "10.0.0.7"),
        ("url.full", "https://api.example/v1?x=REDACTED"),
        ("url.scheme", "https"),
    ];
    with(span(kind, &attributes), [("server.port", 443.into())])
}

fn chat() -> Span {
    with(
        http(SpanKind::Client),
        [
            ("http.response.status_code", 200.into()),
            ("gen_ai.operation.name", "chat".into()),
            ("gen_ai.provider.name", "openai".into()),
            ("gen_ai.request.model", "gpt-4o".into()),
            ("gen_ai.response.model", "gpt-4o-2024".into()),
            ("gen_ai.response.id", "chatcmpl-1".into()),
        ],
    )
}

const OK: &str = "http.client.request.duration{http.request.method=POST,http.response.status_code=200,\
                  network.protocol.version=1.1,server.address=api.example,server.port=443} 1 0.03";
const G: &str = "gen_ai.operation.name=chat,gen_ai.provider.name=openai,gen_ai.request.model=gpt-4o,\
                 gen_ai.response.model=gpt-4o-2024,server.address=api.example,server.port=443";

#[test]
fn http_requests_count_by_what_the_conventions_name() {
    let failed = |mut span: Span, status: i64, error: &'static str| {
        span.push("http.response.status_code", status);
        span.fail(error);
        span
    };
    let mut refused = http(SpanKind::Client);
    refused.fail("connection_refused");
    let client = |rest: &str| {
        format!(
            "http.client.request.duration{{http.request.method=POST,{rest}server.address=api.example,server.port=443}} 1 0.03"
        )
    };
    let server = "http.server.request.duration{http.request.method=POST,http.response.status_code=200,\
                  network.protocol.version=1.1,url.scheme=https} 1 0.03";
    for (span, expected) in [
        (with(http(SpanKind::Client), [("http.response.status_code", 200.into())]), OK.to_owned()),
        (
            failed(http(SpanKind::Client), 404, "404"),
            client("http.response.status_code=404,error.type=404,network.protocol.version=1.1,"),
        ),
        (refused, client("error.type=connection_refused,network.protocol.version=1.1,")),
        (with(http(SpanKind::Server), [("http.response.status_code", 200.into())]), server.to_owned()),
    ] {
        assert_eq!(counted(MetricNames::Both, span), [expected]);
    }
    assert_eq!(counted(MetricNames::Both, span(SpanKind::Client, &[("network.transport", "tcp")])), [""; 0]);
    assert_eq!(counted(MetricNames::Both, span(SpanKind::Internal, &[("http.request.method", "GET")])), [""; 0]);
}

#[test]
fn rpc_calls_count_by_method_and_status() {
    let rpc = [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "greet.Greeter/Hello"),
        ("server.address", "g"),
        ("rpc.status_code", "NOT_FOUND"),
        ("error.type", "NOT_FOUND"),
    ];
    let client = with(span(SpanKind::Client, &rpc), [("server.port", 50051.into())]);
    let common = "rpc.system.name=grpc,rpc.method=greet.Greeter/Hello,rpc.status_code=NOT_FOUND,error.type=NOT_FOUND";
    let expected = format!("rpc.client.call.duration{{{common},server.address=g,server.port=50051}} 1 0.03");
    assert_eq!(counted(MetricNames::Old, client), [expected]);
    let expected = format!("rpc.server.call.duration{{{common}}} 1 0.03");
    assert_eq!(counted(MetricNames::Old, span(SpanKind::Server, &rpc)), [expected]);
}

#[test]
fn mcp_calls_count_as_mcp_and_as_http_but_never_as_genai() {
    let mcp = [
        ("mcp.method.name", Value::from("tools/call")),
        ("gen_ai.tool.name", "add".into()),
        ("gen_ai.operation.name", "execute_tool".into()),
        ("mcp.protocol.version", "2025-11-25".into()),
        ("mcp.session.id", "abc".into()),
        ("jsonrpc.request.id", "7".into()),
        ("mcp.resource.uri", "file:///x".into()),
        ("network.transport", "tcp".into()),
        ("network.protocol.name", "http".into()),
        ("error.type", "tool_error".into()),
        ("http.response.status_code", 200.into()),
    ];
    let common = "mcp.method.name=tools/call,error.type=tool_error,gen_ai.tool.name=add,\
                  gen_ai.operation.name=execute_tool,mcp.protocol.version=2025-11-25,network.transport=tcp,\
                  network.protocol.name=http,network.protocol.version=1.1";
    let client = format!("mcp.client.operation.duration{{{common},server.address=api.example,server.port=443}} 1 0.03");
    // What the tool did wrong is no error of HTTP.
    assert_eq!(counted(MetricNames::Both, with(http(SpanKind::Client), mcp.clone())), [OK.to_owned(), client]);
    let http_server = "http.server.request.duration{http.request.method=POST,http.response.status_code=200,\
                       network.protocol.version=1.1,url.scheme=https} 1 0.03";
    let server = format!("mcp.server.operation.duration{{{common}}} 1 0.03");
    assert_eq!(counted(MetricNames::Both, with(http(SpanKind::Server), mcp)), [http_server.to_owned(), server]);
    // One of a batch.
    let child = [("mcp.method.name", "ping"), ("server.address", "m")];
    let expected = "mcp.client.operation.duration{mcp.method.name=ping,server.address=m} 1 0.03";
    assert_eq!(counted(MetricNames::Both, span(SpanKind::Client, &child)), [expected]);
}

fn streamed() -> Span {
    let usage = [
        ("gen_ai.usage.input_tokens", 1000.into()),
        ("gen_ai.usage.audio.input_tokens", 900.into()),
        ("gen_ai.usage.output_tokens", 20.into()),
        ("gen_ai.usage.cache_read.input_tokens", 0.into()),
        ("gen_ai.usage.reasoning.output_tokens", 5.into()),
        ("gen_ai.response.time_to_first_chunk", 0.5.into()),
        ("openai.response.service_tier", "default".into()),
        ("sidetrace.cost", 0.25.into()),
    ];
    let mut span = with(chat(), usage);
    let mut chunks = ChunkTimes::default();
    [5, 15, 90_000].into_iter().for_each(|millis| chunks.observe(Duration::from_millis(millis)));
    span.chunks = Some(Box::new(chunks));
    span
}

#[test]
fn a_chat_counts_by_the_old_names() {
    let g = format!("{G},openai.response.service_tier=default");
    assert_eq!(
        counted(MetricNames::Old, streamed()),
        [
            format!("gen_ai.client.operation.duration{{{g}}} 1 0.03"),
            format!("gen_ai.client.operation.time_per_output_chunk{{{g}}} 3 90.02"),
            format!("gen_ai.client.operation.time_to_first_chunk{{{g}}} 1 0.5"),
            format!("gen_ai.client.token.usage{{{g},gen_ai.token.type=input}} 1 1000"),
            format!("gen_ai.client.token.usage{{{g},gen_ai.token.type=output}} 1 20"),
            OK.to_owned(),
            "sidetrace.genai.cost{gen_ai.provider.name=openai,gen_ai.request.model=gpt-4o,\
             gen_ai.response.model=gpt-4o-2024} 0 0.25"
                .to_owned(),
        ]
    );
    let calls = calls(MetricNames::Old);
    calls.fold(&[streamed(), streamed()], &Metrics::default());
    let seen = &totals(&calls)[&format!("gen_ai.client.operation.time_per_output_chunk{{{g}}}")];
    assert_eq!(seen.buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
}

#[test]
fn a_chat_counts_by_the_new_names() {
    let g = format!("{G},openai.response.service_tier=default");
    let used = |what: &str, modality: &str, sum: u64| {
        format!("gen_ai.client.inference.usage.{what}{{{g},gen_ai.token.modality={modality}}} 0 {sum}")
    };
    let new = [
        format!("gen_ai.client.inference.duration{{{g}}} 1 0.03"),
        format!("gen_ai.client.inference.operation.input_tokens{{{g}}} 1 1000"),
        format!("gen_ai.client.inference.operation.output_tokens{{{g}}} 1 20"),
        format!("gen_ai.client.inference.time_per_output_chunk{{{g}}} 3 90.02"),
        format!("gen_ai.client.inference.time_to_first_chunk{{{g}}} 1 0.5"),
        used("cache_read.input_tokens", "unknown", 0),
        used("input_tokens", "audio", 900),
        used("input_tokens", "unknown", 100),
        used("output_tokens", "unknown", 20),
        used("reasoning.output_tokens", "unknown", 5),
    ];
    let found = counted(MetricNames::New, streamed());
    assert_eq!(found[..10], new);
    assert_eq!((found.len(), &*found[10]), (12, OK));
    assert_eq!(counted(MetricNames::Both, streamed()).len(), 12 + 5);
}

#[test]
fn a_failed_chat_counts_with_its_error_and_no_tokens_that_nobody_named() {
    let mut span = with(http(SpanKind::Client), [("http.response.status_code", 429.into())]);
    span = with(span, [("gen_ai.operation.name", "chat".into()), ("gen_ai.provider.name", "openai".into())]);
    span.fail("rate_limit_exceeded");
    let genai = "gen_ai.operation.name=chat,gen_ai.provider.name=openai,server.address=api.example,server.port=443,\
                 error.type=rate_limit_exceeded";
    let http = "http.client.request.duration{http.request.method=POST,http.response.status_code=429,error.type=429,\
                network.protocol.version=1.1,server.address=api.example,server.port=443} 1 0.03";
    let old = format!("gen_ai.client.operation.duration{{{genai}}} 1 0.03");
    assert_eq!(counted(MetricNames::Old, span.clone()), [old, http.to_owned()]);
    let new = format!("gen_ai.client.inference.duration{{{genai}}} 1 0.03");
    assert_eq!(counted(MetricNames::New, span), [new, http.to_owned()]);
}

#[test]
fn embeddings_and_other_operations_have_their_own_names() {
    let call = |operation: &'static str| {
        let attributes = [("gen_ai.operation.name", operation), ("gen_ai.provider.name", "openai")];
        with(span(SpanKind::Client, &attributes), [("gen_ai.usage.input_tokens", 8.into())])
    };
    let g = |operation: &str| format!("gen_ai.operation.name={operation},gen_ai.provider.name=openai");
    let e = g("embeddings");
    assert_eq!(
        counted(MetricNames::New, call("embeddings")),
        [
            format!("gen_ai.client.embeddings.duration{{{e}}} 1 0.03"),
            format!("gen_ai.client.embeddings.operation.input_tokens{{{e}}} 1 8"),
        ]
    );
    assert_eq!(
        counted(MetricNames::Old, call("embeddings")),
        [
            format!("gen_ai.client.operation.duration{{{e}}} 1 0.03"),
            format!("gen_ai.client.token.usage{{{e},gen_ai.token.type=input}} 1 8"),
        ]
    );
    // Its tokens were counted with the response that is fetched.
    let fetched = format!("gen_ai.client.operation.duration{{{}}} 1 0.03", g("fetch_response"));
    for names in [MetricNames::Old, MetricNames::New, MetricNames::Both] {
        assert_eq!(counted(names, call("fetch_response")), [&*fetched], "{names:?}");
    }
    let inbound = [("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "openai")];
    assert_eq!(counted(MetricNames::Both, span(SpanKind::Server, &inbound)), [""; 0], "those are a server's");
}

#[test]
fn what_finds_no_room_counts_in_one_series_more() {
    let (calls, metrics) = (calls(MetricNames::Old), Metrics::default());
    let to = |host: String| {
        with(span(SpanKind::Client, &[("http.request.method", "GET")]), [("server.address", host.into())])
    };
    let spans: Vec<_> = (0..3000).map(|host| to(format!("host-{host}"))).collect();
    calls.fold(&spans, &metrics);
    calls.fold(&spans[..10], &metrics);
    let seen = totals(&calls);
    assert_eq!(seen.len(), 2000);
    assert_eq!(seen["http.client.request.duration{otel.metric.overflow=true}"].count, 1001);
    assert_eq!(seen["http.client.request.duration{http.request.method=GET,server.address=host-9}"].count, 2);
    assert_eq!(metrics.metrics_overflow.value(), 1001);
    assert_eq!(seen.values().map(|seen| seen.count).sum::<u64>(), 3010);
}

#[test]
fn the_budget_bounds_the_bytes_of_all_series() {
    let (budget, metrics) = (Budget::of(1 << 20), Metrics::default());
    let calls = CallMetrics::new(MetricNames::Old, &budget);
    let host = |host: usize| Value::from(format!("{host:0>2000}"));
    let spans: Vec<_> = (0..1000)
        .map(|index| with(span(SpanKind::Client, &[("http.request.method", "GET")]), [("server.address", host(index))]))
        .collect();
    calls.fold(&spans, &metrics);
    let seen = totals(&calls);
    // A sixteenth of the limit; cut to 128 bytes they are all the same.
    assert_eq!((seen.len(), metrics.metrics_overflow.value()), (1, 0));
    let spans: Vec<_> = (0..1000)
        .map(|index| with(span(SpanKind::Client, &[("http.request.method", "GET")]), [("server.port", index.into())]))
        .collect();
    calls.fold(&spans, &metrics);
    let series = totals(&calls).len();
    assert!((10..100).contains(&series), "{series}");
    assert_eq!(metrics.metrics_overflow.value() as usize, 1000 - (series - 2));
    assert!(budget.lend(1 << 16, Use::Series).is_none());
    assert!(budget.lend(1 << 18, Use::Sink).is_some(), "spans have their own");
}

#[test]
fn texts_are_cut_between_characters() {
    let name = "x".to_owned() + &"é".repeat(100);
    let long = with(span(SpanKind::Client, &[("mcp.method.name", "tools/call")]), [("gen_ai.tool.name", name.into())]);
    let expected = "x".to_owned() + &"é".repeat(63);
    let expected =
        format!("mcp.client.operation.duration{{mcp.method.name=tools/call,gen_ai.tool.name={expected}}} 1 0.03");
    assert_eq!(counted(MetricNames::Old, long), [expected]);
}

#[test]
fn totals_grow_from_one_start_and_deltas_follow_each_other() {
    let key = "mcp.client.operation.duration{mcp.method.name=ping}";
    let ping = || span(SpanKind::Client, &[("mcp.method.name", "ping")]);
    let (calls, metrics) = (calls(MetricNames::Old), Metrics::default());
    let start = calls.start.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    calls.fold(&[ping()], &metrics);
    let (first, again) = (totals(&calls)[key].clone(), totals(&calls)[key].clone());
    assert_eq!((first.start, first.count, again.start, again.count), (start, 1, start, 1));
    assert!(again.time > first.time);

    let delta = |taken: bool| {
        let all = encoded(&calls, Temporality::Delta);
        let (body, end) = all.first()?;
        if taken {
            calls.delivered(Cursor::default(), *end);
        }
        read(body).get(key).cloned()
    };
    let lost = delta(false).unwrap();
    calls.fold(&[ping(), ping()], &metrics);
    // What was not taken comes again, with what came meanwhile.
    let taken = delta(true).unwrap();
    assert_eq!((lost.count, taken.count, taken.start), (1, 3, lost.start));
    assert!((taken.sum - 0.09).abs() < 1e-9);
    assert_eq!(delta(true), None, "nothing came");
    calls.fold(&[ping()], &metrics);
    let next = delta(true).unwrap();
    assert_eq!((next.count, next.start, next.exemplars), (1, taken.time, 1));
    assert_eq!(totals(&calls)[key].count, 4);
}

#[test]
fn the_first_delta_of_a_late_series_begins_with_the_collection_before() {
    let (calls, metrics) = (calls(MetricNames::Old), Metrics::default());
    let method = |method| span(SpanKind::Client, &[("mcp.method.name", method)]);
    calls.fold(&[method("ping")], &metrics);
    let (body, end) = encoded(&calls, Temporality::Delta).remove(0);
    calls.delivered(Cursor::default(), end);
    let before = read(&body).into_values().next().unwrap();
    calls.fold(&[method("tools/list")], &metrics);
    let (body, _) = encoded(&calls, Temporality::Delta).remove(0);
    let late = read(&body).remove("mcp.client.operation.duration{mcp.method.name=tools/list}").unwrap();
    assert!(late.start > before.start && late.start <= before.time, "{late:?} {before:?}");
}

#[test]
fn an_exemplar_is_the_latest_kept_span_of_its_bucket() {
    let took = |millis: u64, sampled: bool| {
        let mut span = span(SpanKind::Client, &[("mcp.method.name", "ping")]);
        span.end = span.start + Duration::from_millis(millis);
        if !sampled {
            span.placement.flags = opentelemetry::TraceFlags::default();
        }
        span
    };
    let calls = calls(MetricNames::Old);
    let spans = [took(30, true), took(31, true), took(32, false), took(5000, true), took(600_000, false)];
    calls.fold(&spans, &Metrics::default());
    let body = encoded(&calls, Temporality::Cumulative).remove(0).0;
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    let exemplars = &histogram.data_points[0].exemplars;
    let ids: Vec<_> = exemplars.iter().map(|exemplar| (&exemplar.trace_id[..], &exemplar.span_id[..])).collect();
    let expected =
        [&spans[1], &spans[3]].map(|span| (span.placement.trace_id.to_bytes(), span.placement.span_id.to_bytes()));
    assert_eq!(ids, expected.iter().map(|(trace, span)| (&trace[..], &span[..])).collect::<Vec<_>>());
    assert_eq!((histogram.data_points[0].count, metric.unit.as_str()), (5, "s"));
}

#[test]
fn a_large_export_is_several_requests_which_together_have_every_series_once() {
    let calls = calls(MetricNames::Old);
    let host = |host: usize| Value::from(format!("{host:0>128}"));
    let spans: Vec<_> = (0..1900)
        .flat_map(|index| {
            ["http.request.method", "mcp.method.name"]
                .map(|key| with(span(SpanKind::Client, &[(key, "x")]), [("server.address", host(index))]))
        })
        .collect();
    calls.fold(&spans, &Metrics::default());
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let requests = encoded(&calls, temporality);
        assert!(requests.len() > 1);
        assert!(requests.iter().all(|(body, _)| body.len() < MOST_BYTES + 64 * 1024));
        let all: Vec<_> = requests.iter().flat_map(|(body, _)| read(body).into_keys()).collect();
        assert_eq!(all.len(), 3800);
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 3800);
    }
    // The second request was not taken: it comes again, alone.
    let requests = encoded(&calls, Temporality::Delta);
    calls.delivered(Cursor::default(), requests[0].1);
    calls.delivered(requests[1].1, requests.last().unwrap().1);
    let again: Vec<_> =
        encoded(&calls, Temporality::Delta).iter().flat_map(|(body, _)| read(body).into_keys()).collect();
    assert_eq!(again, read(&requests[1].0).into_keys().collect::<Vec<_>>());
}

#[test]
fn prometheus_reads_names_units_and_escaped_texts() {
    let calls = calls(MetricNames::Both);
    let mut hostile = chat();
    hostile.attributes.retain(|attribute| attribute.key.as_str() != "gen_ai.request.model");
    hostile.push("gen_ai.request.model", "x\"} 1\n# HELP");
    hostile.push("gen_ai.usage.output_tokens", 7_i64);
    hostile.push("sidetrace.cost", 0.5);
    calls.fold(&[hostile, http(SpanKind::Client)], &Metrics::default());
    let text: String = Arc::new(calls).pages().collect();
    let model = r#"gen_ai_request_model="x\"} 1\n# HELP""#;
    let g = format!(
        "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"openai\",{model},gen_ai_response_model=\"gpt-4o-2024\",\
         server_address=\"api.example\",server_port=\"443\""
    );
    // Attributes stand in the order of the conventions, whichever came first on the span.
    for line in [
        "# TYPE gen_ai_client_operation_duration_seconds histogram".to_owned(),
        format!("gen_ai_client_operation_duration_seconds_bucket{{{g},le=\"0.02\"}} 0"),
        format!("gen_ai_client_operation_duration_seconds_bucket{{{g},le=\"0.04\"}} 1"),
        format!("gen_ai_client_operation_duration_seconds_bucket{{{g},le=\"+Inf\"}} 1"),
        format!("gen_ai_client_operation_duration_seconds_sum{{{g}}} 0.03"),
        format!("gen_ai_client_operation_duration_seconds_count{{{g}}} 1"),
        format!("gen_ai_client_token_usage_bucket{{{g},gen_ai_token_type=\"output\",le=\"16\"}} 1"),
        "# TYPE gen_ai_client_inference_usage_output_tokens_total counter".to_owned(),
        format!("gen_ai_client_inference_usage_output_tokens_total{{{g},gen_ai_token_modality=\"unknown\"}} 7"),
        format!(
            "sidetrace_genai_cost_total{{gen_ai_provider_name=\"openai\",{model},gen_ai_response_model=\"gpt-4o-2024\"}} 0.5"
        ),
        "# TYPE http_client_request_duration_seconds histogram".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains("mcp_"), "a metric without series is not there");
}

#[test]
fn prometheus_reads_many_series_in_pages_that_fit_together() {
    let calls = calls(MetricNames::Old);
    let spans: Vec<_> = (0..500)
        .flat_map(|index| {
            ["http.request.method", "mcp.method.name"]
                .map(|key| with(span(SpanKind::Client, &[(key, "x")]), [("server.port", index.into())]))
        })
        .collect();
    calls.fold(&spans, &Metrics::default());
    let pages: Vec<_> = Arc::new(calls).pages().collect();
    assert!(pages.len() > 10 && pages.iter().all(|page| page.len() < prometheus::PAGE + 4096));
    let text = pages.concat();
    let (http, mcp) = text.split_once("# HELP mcp_").unwrap();
    for (part, name) in [(http, "http_client_request"), (mcp, "mcp_client_operation")] {
        assert_eq!(part.matches("# TYPE").count(), 1);
        for port in 0..500 {
            let end = format!("server_port=\"{port}\"}} 1");
            let counts = part.lines().filter(|line| line.starts_with(&format!("{name}_duration_seconds_count")));
            assert_eq!(counts.filter(|line| line.ends_with(&end)).count(), 1, "{name} {port}");
        }
    }
}

#[test]
fn calls_are_told_apart_by_what_they_spoke_and_which_way_they_went() {
    use CallProtocol::{Grpc, Http1, Http2, Tcp};
    let method = (semconv::HTTP_REQUEST_METHOD, "GET");
    let version = |version| (semconv::NETWORK_PROTOCOL_VERSION, version);
    let cases: [(_, &[_], _); 6] = [
        (SpanKind::Client, &[method, version("1.1")], (false, Http1)),
        (SpanKind::Server, &[method], (true, Http1)),
        (SpanKind::Client, &[method, version("2")], (false, Http2)),
        (SpanKind::Server, &[(semconv::RPC_SYSTEM_NAME, "grpc")], (true, Grpc)),
        (SpanKind::Client, &[(semconv::NETWORK_TRANSPORT, "tcp")], (false, Tcp)),
        (SpanKind::Client, &[], (false, Tcp)),
    ];
    for (kind, attributes, (inbound, protocol)) in cases {
        let metrics = Metrics::default();
        fold(&[span(kind, attributes)], &metrics, &calls(MetricNames::Old));
        let durations = metrics.call_duration.of(inbound, protocol).durations();
        assert_eq!((durations.count, durations.sum), (1, 0.03), "{attributes:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_counts_as_no_time() {
    let metrics = Metrics::default();
    let mut span = span(SpanKind::Client, &[]);
    span.end = span.start - Duration::from_secs(5);
    fold(&[span], &metrics, &calls(MetricNames::Old));
    let durations = metrics.call_duration.of(false, CallProtocol::Tcp).durations();
    assert_eq!((durations.count, durations.sum), (1, 0.0));
}
