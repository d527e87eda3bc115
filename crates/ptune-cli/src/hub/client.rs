//! Requests to the hub: where it is, what goes along, and how often is asked.
//!
//! | variable | meaning |
//! |---|---|
//! | `HF_ENDPOINT` | another hub |
//! | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | nobody is asked |
//! | `HF_HUB_DOWNLOAD_TIMEOUT` | seconds that a connection may bring nothing, 30 without it |
//!
//! The token goes to the endpoint's host alone: a redirect to another is followed without it.

use std::time::Duration;

use serde_json::Value;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, Uri};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder, ResponseExt};

use super::refusal::{self, Refused};
use super::token::Token;
use super::{is_on, variable};

const ENDPOINT: &str = "https://huggingface.co";
const CONNECT: Duration = Duration::from_secs(10);
/// Until the head of an answer is whole.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may bring nothing.
const IDLE: Duration = Duration::from_secs(30);
/// The list of a repository's files is far below this.
const LARGEST_JSON: u64 = 64 << 20;
/// Redirects of a model that was renamed, or of a mirror.
const MOST_REDIRECTS: usize = 5;
/// How often a hub that is busy is asked again, with pauses that double.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// What a busy hub may ask to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The hub.
pub(super) struct Client {
    endpoint: String,
    token: Option<Token>,
    /// How long a connection may bring nothing.
    pub(super) idle: Duration,
    /// Follows redirects; the token goes to no other host.
    follows: Agent,
    /// Does not: what a file is stands in the first answer.
    asks: Agent,
}

impl Client {
    /// The hub of the environment; `None` where that forbids to ask it.
    pub(super) fn from_environment() -> Result<Option<Client>, Refused> {
        if is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE") {
            return Ok(None);
        }
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.trim().parse().ok());
        let idle = seconds.filter(|seconds| *seconds > 0).map_or(IDLE, Duration::from_secs);
        let config = |redirects| {
            let config = Agent::config_builder().max_redirects(redirects).max_redirects_will_error(redirects > 0);
            let config = config.http_status_as_error(false).redirect_auth_headers(RedirectAuthHeaders::SameHost);
            let config = config.timeout_connect(Some(CONNECT)).timeout_recv_response(Some(ANSWER));
            let config = config.timeout_per_read(Some(idle)).timeout_per_write(Some(idle));
            config.user_agent(concat!("ptune/", env!("CARGO_PKG_VERSION"))).build().new_agent()
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Some(Client {
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            token: Token::find()?,
            idle,
            follows: config(10),
            asks: config(0),
        }))
    }

    /// The JSON at a path of the hub.
    pub(super) fn json(&self, path: &str) -> Result<Value, Refused> {
        let mut answer = self.get(path, 0)?;
        let text = answer.body_mut().with_config().limit(LARGEST_JSON).read_to_string();
        let text = text.map_err(|wrong| self.failed(path, &refusal::why(&wrong, self.idle)))?;
        serde_json::from_str(&text).map_err(|wrong| self.failed(path, &format!("no JSON in the answer: {wrong}")))
    }

    /// The answer with the bytes of a file from `from` on, as far as the hub grants that: status 206, or 200 and the
    /// whole file.
    pub(super) fn get(&self, path: &str, from: u64) -> Result<Response<Body>, Refused> {
        let answer = self.call(path, || {
            let request = self.with_token(self.follows.get(format!("{}{path}", self.endpoint)), true);
            if from > 0 { request.header("Range", format!("bytes={from}-")) } else { request }
        })?;
        let elsewhere = answer.get_uri().host() != self.endpoint.parse::<Uri>().ok().as_ref().and_then(Uri::host);
        if elsewhere && answer.status().is_client_error() {
            // The address of the bytes is signed for a while: it is no word on the model.
            let host = answer.get_uri().host().unwrap_or_default();
            return Err(self.failed(path, &format!("status {} of {host}", answer.status().as_u16())));
        }
        self.accepted(path, answer)
    }

    /// What the hub says of a file before it says where its bytes are. A model that was renamed is followed, and so is a
    /// mirror that does not know the file's hash.
    pub(super) fn head(&self, path: &str) -> Result<Response<Body>, Refused> {
        let (mut at, mut own) = (format!("{}{path}", self.endpoint), true);
        for _ in 0..MOST_REDIRECTS {
            let answer = self.call(path, || self.with_token(self.asks.head(&at), own))?;
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            match header("location") {
                Some(to) if answer.status().is_redirection() && to.starts_with('/') => {
                    at = format!("{}{to}", origin(&at));
                }
                Some(to) if answer.status().is_redirection() && header("x-linked-etag").is_none() => {
                    own = own && origin(to) == origin(&self.endpoint);
                    at = to.to_owned();
                }
                _ => return self.accepted(path, answer),
            }
        }
        Err(self.failed(path, "it is redirected again and again"))
    }

    fn with_token(&self, request: RequestBuilder<WithoutBody>, own: bool) -> RequestBuilder<WithoutBody> {
        let request = request.header("Accept-Encoding", "identity");
        match self.token.as_ref().filter(|_| own) {
            Some(token) => request.header("Authorization", token.header()),
            None => request,
        }
    }

    /// The answer to a request; of a hub that is busy or out of order, after a few pauses.
    fn call(&self, path: &str, request: impl Fn() -> RequestBuilder<WithoutBody>) -> Result<Response<Body>, Refused> {
        let mut left = AGAIN;
        loop {
            let answer = request().call().map_err(|wrong| self.failed(path, &refusal::why(&wrong, self.idle)))?;
            let busy = answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS;
            if !busy || left == 0 {
                return Ok(answer);
            }
            let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let pause = asked.map_or(PAUSE * (1 << (AGAIN - left)), Duration::from_secs);
            if pause > LONGEST_PAUSE {
                return Ok(answer);
            }
            left -= 1;
            std::thread::sleep(pause);
        }
    }

    fn accepted(&self, path: &str, answer: Response<Body>) -> Result<Response<Body>, Refused> {
        if answer.status().is_success() || answer.status().is_redirection() {
            return Ok(answer);
        }
        Err(refusal::refused(&self.endpoint, path, self.token.as_ref(), &answer))
    }

    fn failed(&self, path: &str, why: &str) -> Refused {
        refusal::failed(&self.endpoint, path, why)
    }
}

/// `https://host:port` of an address.
fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |at| at + 3);
    address[host..].find('/').map_or(address, |end| &address[..host + end])
}
