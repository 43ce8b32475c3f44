//! Who answers, and in which format: the table of hosts and the table of paths. A new provider is a line in the one, a new
//! format a file and a line in the other.
//!
//! Provider and format are independent of each other: whatever the host, an OpenAI path is read as OpenAI's.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::formats::{
    Anthropic, BedrockAgent, BedrockConverse, BedrockInvoke, Cohere, CohereEmbed, Fetch, Gemini, GeminiEmbed, Mcp,
    McpListen, Ollama, OllamaEmbed, OpenAiChat, OpenAiCompletions, OpenAiEmbeddings, OpenAiResponses, Retrieval,
};
use super::{Format, Headers, Request, Settings};
use crate::config::rules::ends_with_ignoring_case;
use crate::net::Direction;
use crate::policy::{self, Policy};
use crate::trace::propagation::Carrier;

/// A call that is to be read.
pub(crate) struct Found {
    pub(crate) format: Box<dyn Format>,
    pub(crate) provider: Option<Cow<'static, str>>,
    pub(crate) operation: &'static str,
    /// The model, where the path names it.
    pub(crate) model: Option<String>,
    /// The path asks for a stream.
    pub(crate) stream: bool,
    /// The request waits for its body before it is placed.
    pub(crate) holds: bool,
}

/// What a line of the table is asked with.
pub(crate) struct Route<'a> {
    /// What stood in the places of the stars, decoded.
    pub(crate) stars: Vec<String>,
    /// `gen_ai.provider.name`, if the host tells.
    pub(crate) provider: Option<&'a str>,
}

/// What a line of the table makes: the format, the operation, and the provider if only the format tells.
pub(crate) struct Made {
    pub(crate) format: Box<dyn Format>,
    pub(crate) operation: &'static str,
    pub(crate) provider: &'static str,
    /// Which star is the model.
    pub(crate) model: Option<usize>,
    pub(crate) stream: bool,
}

struct Line {
    method: &'static str,
    /// What the path ends with, segment by segment; a star is any one segment, or its part before a colon.
    path: &'static str,
    make: fn(&Route<'_>) -> Made,
}

fn made(format: impl Format + 'static, operation: &'static str, provider: &'static str) -> Made {
    Made { format: Box::new(format), operation, provider, model: None, stream: false }
}

impl Made {
    fn model(self, star: usize) -> Self {
        Self { model: Some(star), ..self }
    }

    fn stream(self) -> Self {
        Self { stream: true, ..self }
    }
}

static LINES: &[Line] = &[
    // Azure names the model in the path; a model in the body wins.
    line("POST", "/openai/deployments/*/chat/completions", |_| made(OpenAiChat::default(), "chat", "openai").model(0)),
    line("POST", "/openai/deployments/*/completions", |_| {
        made(OpenAiCompletions::default(), "text_completion", "openai").model(0)
    }),
    line("POST", "/openai/deployments/*/embeddings", |_| {
        made(OpenAiEmbeddings::default(), "embeddings", "openai").model(0)
    }),
    line("POST", "/chat/completions", |_| made(OpenAiChat::default(), "chat", "openai")),
    line("POST", "/agents/completions", |_| made(OpenAiChat::default(), "chat", "mistral_ai")),
    line("POST", "/completions", |_| made(OpenAiCompletions::default(), "text_completion", "openai")),
    line("POST", "/responses", |_| made(OpenAiResponses::default(), "chat", "openai")),
    line("GET", "/responses/*", |route| made(Fetch::new(route), "fetch_response", "openai")),
    // Others than Ollama have OpenAI's format there.
    line("POST", "/api/embeddings", |route| match route.provider {
        Some("ollama") => made(OllamaEmbed::default(), "embeddings", "ollama"),
        _ => made(OpenAiEmbeddings::default(), "embeddings", "openai"),
    }),
    line("POST", "/vector_stores/*/search", |route| made(Retrieval::openai(route), "retrieval", "openai")),
    line("POST", "/embeddings", |_| made(OpenAiEmbeddings::default(), "embeddings", "openai")),
    line("POST", "/v1/messages", |_| made(Anthropic::default(), "chat", "anthropic")),
    line("POST", "/models/*:rawPredict", |_| made(Anthropic::raw(), "chat", "anthropic").model(0)),
    line("POST", "/models/*:streamRawPredict", |_| made(Anthropic::raw(), "chat", "anthropic").model(0).stream()),
    line("POST", "/*:generateContent", |_| made(Gemini::default(), "generate_content", "gcp.gen_ai").model(0)),
    line("POST", "/*:streamGenerateContent", |_| {
        made(Gemini::default(), "generate_content", "gcp.gen_ai").model(0).stream()
    }),
    line("POST", "/*:embedContent", |_| made(GeminiEmbed::default(), "embeddings", "gcp.gen_ai").model(0)),
    line("POST", "/*:batchEmbedContents", |_| made(GeminiEmbed::default(), "embeddings", "gcp.gen_ai").model(0)),
    line("POST", "/models/*:predict", |_| made(GeminiEmbed::predict(), "embeddings", "gcp.gen_ai").model(0)),
    line("POST", "/v2/chat", |_| made(Cohere::default(), "chat", "cohere")),
    line("POST", "/v2/embed", |_| made(CohereEmbed::default(), "embeddings", "cohere")),
    line("POST", "/v1/embed", |_| made(CohereEmbed::default(), "embeddings", "cohere")),
    line("POST", "/api/chat", |_| made(Ollama::chat(), "chat", "ollama")),
    line("POST", "/api/generate", |_| made(Ollama::generate(), "text_completion", "ollama")),
    line("POST", "/api/embed", |_| made(OllamaEmbed::default(), "embeddings", "ollama")),
    line("POST", "/model/*/converse", |_| made(BedrockConverse::default(), "chat", "aws.bedrock").model(0)),
    line("POST", "/model/*/converse-stream", |_| {
        made(BedrockConverse::default(), "chat", "aws.bedrock").model(0).stream()
    }),
    line("POST", "/model/*/invoke", |_| made(BedrockInvoke::default(), "chat", "aws.bedrock").model(0)),
    line("POST", "/model/*/invoke-with-response-stream", |_| {
        made(BedrockInvoke::default(), "chat", "aws.bedrock").model(0).stream()
    }),
    line("POST", "/agents/*/agentAliases/*/sessions/*/text", |route| {
        made(BedrockAgent::new(route), "invoke_agent", "aws.bedrock")
    }),
    line("POST", "/knowledgebases/*/retrieve", |route| made(Retrieval::bedrock(route), "retrieval", "aws.bedrock")),
];

const fn line(method: &'static str, path: &'static str, make: fn(&Route<'_>) -> Made) -> Line {
    Line { method, path, make }
}

/// Hosts by their ends, and who answers there. A star is one label, or the rest of one.
static HOSTS: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    ("*.api.openai.com", "openai"),
    ("*.openai.azure.com", "azure.ai.openai"),
    ("*.cognitiveservices.azure.com", "azure.ai.openai"),
    ("*.services.ai.azure.com", "azure.ai.inference"),
    ("*.models.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("*-aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("aiplatform.*.rep.googleapis.com", "gcp.vertex_ai"),
    ("bedrock-*.amazonaws.com", "aws.bedrock"),
    ("bedrock-*.amazonaws.com.cn", "aws.bedrock"),
    ("bedrock-*.api.aws", "aws.bedrock"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.*.mistral.ai", "mistral_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot.ai", "moonshot_ai"),
];

/// What a request is, by its method, host, path and header fields.
pub(crate) fn recognise<H: Carrier>(
    settings: &Arc<Settings>,
    policy: &Policy,
    request: &Request<'_, H>,
) -> Option<Found> {
    let subject = &request.subject;
    let headers = request.headers;
    let header = |name: &'static str| {
        let value = headers.values(name).next()?;
        std::str::from_utf8(value).ok()
    };
    let json = Type::of(header("content-type"));
    let outbound = subject.direction == Direction::Outbound;
    if outbound && (json != Type::Other || subject.method == "GET") {
        let host = subject.host.map(policy::bare_host).unwrap_or_default();
        let found = LINES.iter().filter(|line| line.method == subject.method);
        let found = found.filter_map(|line| Some((line, stars(line.path, subject.path)?)));
        if let Some((line, stars)) = found.into_iter().next().filter(|(line, _)| is_meant(line, &header, host)) {
            let provider = policy.provider_for(host).or_else(|| provider(host, subject.port, header("user-agent")));
            let route = Route { stars, provider };
            let made = (line.make)(&route);
            // A path alone that reads things is not enough: there must be a provider behind it.
            if line.method == "GET" && provider.is_none() {
                return None;
            }
            let foundry = made.provider == "anthropic" && provider == Some("azure.ai.inference");
            let provider = if foundry { None } else { provider }.unwrap_or(made.provider);
            return Some(Found {
                format: made.format,
                provider: Some(provider.to_owned().into()),
                operation: made.operation,
                model: made.model.and_then(|star| route.stars.get(star)).map(|model| bare_model(model).to_owned()),
                stream: made.stream,
                holds: json == Type::Json && subject.method == "POST",
            });
        }
    }
    let plain = |format: Box<dyn Format>, holds| Found {
        format,
        provider: None,
        operation: "",
        model: None,
        stream: false,
        holds,
    };
    let streams = || header("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    let named = ["mcp-protocol-version", "mcp-session-id", "mcp-method"].iter().any(|name| header(name).is_some());
    match subject.method {
        "POST" if json == Type::Json => {
            let format = Mcp::new(settings, policy.redaction(), request, named);
            // Only who speaks MCP takes an answer of either kind, or posts where a stream told it to.
            let holds = named || streams() || format.is_awaited();
            Some(plain(Box::new(format), holds))
        }
        "GET" if streams() => {
            Some(plain(Box::new(McpListen::new(settings, policy.redaction(), request, named)), false))
        }
        "DELETE" if named => Some(plain(Box::new(McpListen::new(settings, policy.redaction(), request, named)), false)),
        _ => None,
    }
}

/// Paths that other services have, too, are told by more than the path.
fn is_meant<'h>(line: &Line, header: &dyn Fn(&'static str) -> Option<&'h str>, host: &str) -> bool {
    match line.path {
        "/v1/messages" => {
            header("anthropic-version").is_some() || is_host("anthropic.com", host) || is_host("*.anthropic.com", host)
        }
        _ => true,
    }
}

/// What a body is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Json,
    /// Nothing is said, or what `curl -d` or a browser's `fetch` says of everything.
    Unsaid,
    Other,
}

impl Type {
    fn of(kind: Option<&str>) -> Self {
        let Some(kind) = kind else { return Type::Unsaid };
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let is = |other: &str| kind.eq_ignore_ascii_case(other);
        if is("application/json") || is("text/json") || ends_with_ignoring_case(kind, "+json") {
            Type::Json
        } else if is("application/x-www-form-urlencoded") || is("text/plain") {
            Type::Unsaid
        } else {
            Type::Other
        }
    }
}

/// `gen_ai.provider.name` by the host.
fn provider(host: &str, port: u16, agent: Option<&str>) -> Option<&'static str> {
    let known = HOSTS.iter().find(|(pattern, _)| is_host(pattern, host)).map(|(_, provider)| *provider);
    let ollama = || port == 11434 || agent.is_some_and(|agent| agent.starts_with("ollama-python/"));
    known.or_else(|| ollama().then_some("ollama"))
}

fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(host),
        Some((begin, end)) => {
            host.len() > begin.len() + end.len()
                && host.get(..begin.len()).is_some_and(|found| found.eq_ignore_ascii_case(begin))
                && ends_with_ignoring_case(host, end)
        }
    }
}

/// What stands in the places of a pattern's stars, if the path ends as the pattern does, in whichever case (Azure).
fn stars(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut stars = Vec::new();
    let mut found = path.trim_end_matches('/').rsplit('/');
    for wanted in pattern.rsplit('/').take_while(|wanted| !wanted.is_empty()) {
        let segment = found.next()?;
        let star = match wanted.strip_prefix('*') {
            None if wanted.eq_ignore_ascii_case(segment) => continue,
            None => return None,
            // A colon in a model's name is escaped where it could be mistaken for the one before the verb.
            Some(verb) => segment.strip_suffix(verb).filter(|star| !star.is_empty())?,
        };
        stars.push(percent_decode_str(star).decode_utf8_lossy().into_owned());
    }
    // What stands before must be a path's begin or a whole segment.
    found.next()?;
    stars.reverse();
    Some(stars)
}

/// A model's name without the folders that Google puts before it.
fn bare_model(model: &str) -> &str {
    ["publishers/google/models/", "models/", "tunedModels/"]
        .iter()
        .find_map(|folder| model.strip_prefix(folder))
        .unwrap_or(model)
}

/// How many requests for the same answer came before this one, by what SDKs say.
pub(crate) fn resends(headers: &Headers<'_>) -> u32 {
    let stainless = || headers.get("x-stainless-retry-count")?.parse().ok();
    let amazon = || {
        let said = headers.get("amz-sdk-request")?;
        let attempt = said.split(';').find_map(|pair| pair.trim().strip_prefix("attempt=")?.parse::<u32>().ok())?;
        Some(attempt.saturating_sub(1))
    };
    stainless().or_else(amazon).unwrap_or(0)
}
