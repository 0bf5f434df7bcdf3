//! Why a request is denied: one reason for each rule, and words that a person can act on.
use std::fmt;

/// The most bytes that a message has.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// The most bytes that one text from outside takes in a message.
const MAX_QUOTED_BYTES: usize = 120;

/// What to do about a request that no driver of ours makes.
pub(super) const NOT_OURS: &str = "The node driver makes no such request: let driver and \
     controller be of one version, and find out what else uses the driver's service account";

/// The rule that a request breaks: the `reason` of its condition `Denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Somebody else than the node driver made it.
    UnknownRequester,
    /// The requester's token does not say on which node it is used.
    NoNodeClaim,
    /// It asks for other usages than a workload's certificate has.
    UsagesNotAllowed,
    /// It is no sound PKCS#10 request, or for a key of another kind than ours.
    BadRequest,
    /// It asks for other names or extensions than one SPIFFE ID.
    NamesNotAllowed,
    /// Its name is no workload's SPIFFE ID of this cluster.
    WrongIdentity,
    /// The pod is not there, or is another one now.
    PodNotFound,
    /// The pod runs on another node than the requester: somebody may have stolen a node's token.
    PodOnOtherNode,
    /// The pod runs as another service account than the name says.
    WrongServiceAccount,
    /// The pod has no volume of the node driver.
    PodDidNotAsk,
    /// The pod has run to its end, or was never run for the API server.
    PodFinished,
}

impl Reason {
    /// Every reason, in the order of the rules.
    pub const ALL: [Self; 11] = [
        Self::UnknownRequester,
        Self::NoNodeClaim,
        Self::UsagesNotAllowed,
        Self::BadRequest,
        Self::NamesNotAllowed,
        Self::WrongIdentity,
        Self::PodNotFound,
        Self::PodOnOtherNode,
        Self::WrongServiceAccount,
        Self::PodDidNotAsk,
        Self::PodFinished,
    ];

    /// The text in the condition, for example `PodNotFound`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownRequester => "UnknownRequester",
            Self::NoNodeClaim => "NoNodeClaim",
            Self::UsagesNotAllowed => "UsagesNotAllowed",
            Self::BadRequest => "BadRequest",
            Self::NamesNotAllowed => "NamesNotAllowed",
            Self::WrongIdentity => "WrongIdentity",
            Self::PodNotFound => "PodNotFound",
            Self::PodOnOtherNode => "PodOnOtherNode",
            Self::WrongServiceAccount => "WrongServiceAccount",
            Self::PodDidNotAsk => "PodDidNotAsk",
            Self::PodFinished => "PodFinished",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A request that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    reason: Reason,
    message: String,
}

impl Denial {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            const CUT: &str = "...";
            let mut end = MAX_MESSAGE_BYTES - CUT.len();
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push_str(CUT);
        }
        Self { reason, message }
    }

    /// The rule.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What was found, what is allowed and the next step: one line of at most
    /// [`MAX_MESSAGE_BYTES`], without control characters whatever the request holds.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// A text from outside, as a message shows it: printable ASCII in quotation marks, cut.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let shown = c.escape_default();
        if quoted.len() + shown.len() > MAX_QUOTED_BYTES {
            quoted.push_str("...");
            break;
        }
        // An apostrophe needs no escape between quotation marks.
        match c {
            '\'' => quoted.push(c),
            _ => quoted.extend(shown),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reasons_are_those_of_the_documentation() {
        for (reason, text) in Reason::ALL.into_iter().zip([
            "UnknownRequester",
            "NoNodeClaim",
            "UsagesNotAllowed",
            "BadRequest",
            "NamesNotAllowed",
            "WrongIdentity",
            "PodNotFound",
            "PodOnOtherNode",
            "WrongServiceAccount",
            "PodDidNotAsk",
            "PodFinished",
        ]) {
            assert_eq!(reason.to_string(), text);
        }
    }

    #[test]
    fn what_is_quoted_can_do_nothing_to_a_terminal() {
        assert_eq!(quote("it's"), "\"it's\"");
        assert_eq!(quote("a\n\u{1b}[2J\"\\"), r#""a\n\u{1b}[2J\"\\""#);
        assert_eq!(quote("\u{202e}\u{200b}é"), r#""\u{202e}\u{200b}\u{e9}""#);
        assert!(quote(&"x".repeat(1 << 20)).ends_with("xxx...\""));
    }

    proptest! {
        #[test]
        fn every_message_is_one_short_line(text in any::<String>(), times in 0..300_usize) {
            let quoted = quote(&text.repeat(times));
            prop_assert!(quoted.len() <= MAX_QUOTED_BYTES + 4);
            prop_assert!(quoted.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            let denial = Denial::new(Reason::BadRequest, text.repeat(times));
            prop_assert!(denial.message().len() <= MAX_MESSAGE_BYTES);
        }
    }
}
