//! Why there is no download, in words: what the hub's refusals mean, and what to do about them.

use std::io;
use std::time::Duration;

use ptune::Error;
use ureq::Body;
use ureq::http::Response;

use super::token::Token;

/// How much is shown of what the hub says itself.
const LONGEST_SAID: usize = 200;

/// Why there is no download.
#[derive(Debug)]
pub(super) enum Refused {
    /// The hub said no: a wrong name, a gated model.
    Request(String),
    /// The network or the hub failed.
    Failed(String),
    /// A file could not be read or written.
    File(Error),
}

impl Refused {
    /// The error of the command; `place` is what was said before, where was looked.
    pub(super) fn into_error(self, place: &str) -> Error {
        match self {
            Refused::Request(message) => Error::request(format!("{place}{message}")),
            Refused::Failed(message) => Error::Failed(format!("{place}{message}")),
            Refused::File(error) => error,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::File(error)
    }
}

/// What an answer of the hub with a status of 400 and above means.
pub(super) fn refused(endpoint: &str, path: &str, token: Option<&Token>, answer: &Response<Body>) -> Refused {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let (status, code) = (answer.status().as_u16(), header("x-error-code"));
    let said = header("x-error-message").map_or(String::new(), |said| {
        format!(" ({})", said.chars().take(LONGEST_SAID).collect::<String>().trim_end_matches('.'))
    });
    let log_in = "log in with 'hf auth login', or set HF_TOKEN";
    Refused::Request(match (status, code, token) {
        (401 | 403, Some("GatedRepo"), None) => format!(
            "{endpoint}: this model is gated: accept its terms on its page there, and give a token of that account: {log_in}"
        ),
        (401 | 403, Some("GatedRepo"), Some(Token { place, .. })) => format!(
            "{endpoint}: this model is gated, and the token of {place} does not open it: accept its terms on its page \
             there with that account, and wait where they are granted by hand; a fine-grained token also needs the right \
             to read gated models"
        ),
        (401, _, Some(Token { place, .. })) => format!(
            "{endpoint} does not accept the token of {place}{said}: it may have run out. Make a new one ({log_in}), or \
             take it away: a model that everybody may read needs none"
        ),
        (403, _, Some(Token { place, .. })) => {
            format!("{endpoint} forbids this{said}: the token of {place} has no right to read this model")
        }
        (404, Some("RevisionNotFound"), _) => format!("{endpoint} has this model, but not that revision"),
        (404, Some("EntryNotFound"), _) => format!("{endpoint} does not have {path}"),
        (401 | 403 | 404, _, None) => format!(
            "{endpoint} has no such model either that everybody may read; is the name right? Of a private one: {log_in}"
        ),
        (404, _, Some(Token { place, .. })) => {
            format!("{endpoint} has no such model either that the token of {place} may read; is the name right?")
        }
        (429, _, None) => return failed(endpoint, path, &format!("too many requests; wait a little; {log_in}")),
        (429, ..) => return failed(endpoint, path, "too many requests; wait a little"),
        (status, ..) => return failed(endpoint, path, &format!("status {status}{said}")),
    })
}

/// A failure of the network or the hub.
pub(super) fn failed(endpoint: &str, path: &str, why: &str) -> Refused {
    Refused::Failed(format!("{endpoint}{path}: {why}"))
}

/// Why a connection ended, in words; `idle` is how long it may bring nothing.
pub(super) fn why(wrong: &ureq::Error, idle: Duration) -> String {
    match wrong {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => "it cannot be reached".into(),
        ureq::Error::Timeout(_) => format!("nothing came for {} s", idle.as_secs()),
        ureq::Error::HostNotFound => "there is no such host, or no network".into(),
        other => other.to_string(),
    }
}

/// The same of a body that broke off.
pub(super) fn why_broken(wrong: &io::Error, idle: Duration) -> String {
    let inner = wrong.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match inner {
        Some(inner) => why(inner, idle),
        None if wrong.kind() == io::ErrorKind::TimedOut => format!("nothing came for {} s", idle.as_secs()),
        None => wrong.to_string(),
    }
}
