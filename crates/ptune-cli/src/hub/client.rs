//! Requests to the hub: endpoint, token, and what a refusal means to people.

use std::time::Duration;

use ptune::Error;
use serde_json::Value;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

const ENDPOINT: &str = "https://huggingface.co";
const CONNECT: Duration = Duration::from_secs(10);
/// Until the first byte of an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// The list of a repository's files is far below this.
const LARGEST_JSON: u64 = 64 << 20;
/// What stands before the name of a relative redirect.
const MOST_REDIRECTS: usize = 5;

/// Why there is no download.
#[derive(Debug)]
pub(super) enum Refused {
    /// The hub said no: a wrong name, a gated model.
    Request(String),
    /// The network or the hub failed.
    Failed(String),
    /// A file could not be written.
    Write(Error),
}

/// The hub.
pub(super) struct Client {
    endpoint: String,
    token: Option<String>,
    /// Follows redirects; the token goes to no other host.
    follows: Agent,
    /// Does not: what a file is stands in the first answer.
    asks: Agent,
}

impl Refused {
    /// The error of the command; `place` is what was said before, where was looked.
    pub(super) fn into_error(self, place: &str) -> Error {
        match self {
            Refused::Request(message) => Error::request(format!("{place}{message}")),
            Refused::Failed(message) => Error::Failed(format!("{place}{message}")),
            Refused::Write(error) => error,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Write(error)
    }
}

impl Client {
    /// The hub of the environment; `None` where `HF_HUB_OFFLINE` forbids it.
    pub(super) fn from_environment() -> Option<Client> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let on = |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        if variable("HF_HUB_OFFLINE").is_some_and(on) {
            return None;
        }
        let config = |redirects| {
            let config = Agent::config_builder().max_redirects(redirects).max_redirects_will_error(redirects > 0);
            let config = config.http_status_as_error(false).redirect_auth_headers(RedirectAuthHeaders::SameHost);
            let config = config.timeout_connect(Some(CONNECT)).timeout_recv_response(Some(ANSWER));
            config.user_agent(concat!("ptune/", env!("CARGO_PKG_VERSION"))).build().new_agent()
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Some(Client {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: variable("HF_TOKEN").map(|token| format!("Bearer {}", token.trim())),
            follows: config(10),
            asks: config(0),
        })
    }

    /// The JSON at a path of the hub.
    pub(super) fn json(&self, path: &str) -> Result<Value, Refused> {
        let mut answer = self.get(path, 0)?;
        let text = answer.body_mut().with_config().limit(LARGEST_JSON).read_to_string();
        let text = text.map_err(|wrong| self.failed(path, &wrong.to_string()))?;
        serde_json::from_str(&text).map_err(|wrong| self.failed(path, &format!("no JSON in the answer: {wrong}")))
    }

    /// The answer with the bytes of a file from `from` on, as far as the hub grants that: status 206, or 200 and the
    /// whole file.
    pub(super) fn get(&self, path: &str, from: u64) -> Result<Response<Body>, Refused> {
        let mut request = self.follows.get(format!("{}{path}", self.endpoint)).header("Accept-Encoding", "identity");
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let answer = request.call().map_err(|wrong| self.failed(path, &wrong.to_string()))?;
        self.accepted(path, answer)
    }

    /// What the hub says of a file before it says where its bytes are. A model that was renamed is followed.
    pub(super) fn head(&self, path: &str) -> Result<Response<Body>, Refused> {
        let mut at = path.to_owned();
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.asks.head(format!("{}{at}", self.endpoint)).header("Accept-Encoding", "identity");
            if let Some(token) = &self.token {
                request = request.header("Authorization", token);
            }
            let answer = request.call().map_err(|wrong| self.failed(&at, &wrong.to_string()))?;
            let elsewhere = answer.headers().get("location").and_then(|to| to.to_str().ok());
            match elsewhere {
                Some(to) if answer.status().is_redirection() && to.starts_with('/') => at = to.to_owned(),
                _ => return self.accepted(&at, answer),
            }
        }
        Err(self.failed(path, "it is redirected again and again"))
    }

    /// What a refusal means.
    fn accepted(&self, path: &str, answer: Response<Body>) -> Result<Response<Body>, Refused> {
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(answer);
        }
        let said = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let endpoint = &self.endpoint;
        let token = if self.token.is_some() { "the token in HF_TOKEN does not open it" } else { "set HF_TOKEN" };
        let message = match (status.as_u16(), said("x-error-code")) {
            (401 | 403, Some("GatedRepo")) => format!(
                "{endpoint}: this model is gated: accept its terms on its page there, and give a token of that account; \
                 {token}"
            ),
            (404, Some("RevisionNotFound")) => format!("{endpoint} has this model, but not that revision"),
            (404, Some("EntryNotFound")) => format!("{endpoint} does not have {path}"),
            (401 | 403 | 404, _) => format!(
                "{endpoint} has no such model either that everybody may read; is the name right? Of a private one: {token}"
            ),
            (429, _) => return Err(self.failed(path, "too many requests; wait a little, or set HF_TOKEN")),
            (code, _) => return Err(self.failed(path, &format!("status {code}"))),
        };
        Err(Refused::Request(message))
    }

    fn failed(&self, path: &str, why: &str) -> Refused {
        Refused::Failed(format!("{}{path}: {why}", self.endpoint))
    }
}
