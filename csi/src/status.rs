//! What a call that failed answers with.
use tonic::{Code, Status};

use crate::{
    content::{FillError, FillErrorKind, VolumeId},
    mounts::MountError,
};

/// Longest message of an answer, in bytes: it ends in an event of the pod.
const LONGEST_MESSAGE: usize = 4096;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// What kubelet, or whoever calls, says makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no content. In the words that GKE's users know.
    #[error(
        "unable to mount volume: store.CreateVolume, err: unable to create volume \"{id}\": {error}"
    )]
    NoContent {
        /// The volume.
        id: VolumeId,
        /// Why.
        error: FillError,
    },
    /// The content is not there yet; the work goes on.
    #[error(
        "the volume {id} is not filled after {seconds} s; the work goes on, and kubelet asks again by itself{}",
        last_trouble(trouble.as_deref())
    )]
    StillWorking {
        /// The volume.
        id: VolumeId,
        /// How long the call waited.
        seconds: u64,
        /// What was in the way last.
        trouble: Option<String>,
    },
    /// The volume was given back while it was being published.
    #[error(
        "the volume {0} was unpublished while it was being filled; kubelet asks again if it is still wanted"
    )]
    Gone(VolumeId),
    /// The driver ends while a call waits.
    #[error(
        "the driver ends; the work on the volume {0} goes on when it is back, and kubelet asks again by itself"
    )]
    Ending(VolumeId),
    /// The system refuses.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The driver runs with a setting for tests, and this is no test.
    #[error(
        "a kubelet has registered this driver while it accepts any caller, which is for conformance tests only; start it without that setting"
    )]
    TestOnly,
    /// A task ended badly.
    #[error("the driver failed: {0}")]
    Internal(String),
}

fn last_trouble(trouble: Option<&str>) -> String {
    trouble.map_or_else(String::new, |trouble| format!(": {trouble}"))
}

impl CallError {
    /// Nothing is under way for the volume any more, and so nothing of it may stay.
    pub(crate) fn ends_the_work(&self) -> bool {
        match self {
            Self::StillWorking { .. } | Self::Gone(_) | Self::Ending(_) | Self::TestOnly => false,
            // A request of an earlier process may be under way.
            Self::NoContent { error, .. } => error.kind != FillErrorKind::Unavailable,
            Self::Invalid(_) | Self::Mount(_) | Self::Internal(_) => true,
        }
    }

    /// THE ONE PLACE in which a code is chosen. Kubelet takes `Unavailable`, `Aborted`
    /// and `DeadlineExceeded` as not final: on these it unpublishes when the pod goes.
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NoContent { error, .. } => match error.kind {
                FillErrorKind::Invalid => Code::InvalidArgument,
                FillErrorKind::Denied => Code::Internal,
                FillErrorKind::Unavailable => Code::Unavailable,
            },
            Self::StillWorking { .. } => Code::DeadlineExceeded,
            Self::Gone(_) => Code::Aborted,
            Self::Ending(_) => Code::Unavailable,
            Self::Mount(_) | Self::Internal(_) => Code::Internal,
            Self::TestOnly => Code::FailedPrecondition,
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let mut message = error.to_string();
        let longest = (0..=LONGEST_MESSAGE).rev();
        let end = longest
            .into_iter()
            .find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or_default());
        Self::new(error.code(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_content(kind: FillErrorKind, message: &str) -> CallError {
        CallError::NoContent {
            id: VolumeId::new("csi-1").unwrap(),
            error: FillError {
                kind,
                message: message.to_owned(),
            },
        }
    }

    #[test]
    fn a_volume_without_a_configuration_is_told_in_the_words_that_gke_uses() {
        let reason = "caPEM is nil (check active WorkloadCertificateConfig): there is none";
        let status = Status::from(no_content(FillErrorKind::Denied, reason));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(
            status.message(),
            "unable to mount volume: store.CreateVolume, err: unable to create volume \"csi-1\": \
             caPEM is nil (check active WorkloadCertificateConfig): there is none"
        );
        assert!(status.details().is_empty());
    }

    #[test]
    fn a_message_is_cut_between_two_characters() {
        for text in ["x".repeat(10_000), "ü".repeat(5_000), "日".repeat(3_000)] {
            let status = Status::from(no_content(FillErrorKind::Unavailable, &text));
            assert!(status.message().len() <= LONGEST_MESSAGE);
            assert!(status.message().len() > LONGEST_MESSAGE - 4);
            assert_eq!(status.code(), Code::Unavailable);
        }
    }
}
