//! `Workload`: who gets a certificate and where it is written, as it is typed.

use serde::{Deserialize, Serialize};

use super::decode::{At, Decoder};
use super::policy::HookSignal;

/// The `spec` of a `Workload` of `certagent.dev/v1alpha1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// The trust domain, where it does not follow from the other objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// The namespace in the SPIFFE ID: a DNS label. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service account in the SPIFFE ID: a DNS subdomain. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The file with the workload's own token, where its identity at Google is the workload's; a
    /// relative path starts at the directory of the file it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// The common name of its certificates, beside the SPIFFE ID; none for an empty subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// The DNS names of its certificates, beside the SPIFFE ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// What is done after each new generation in the volume, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_rotate: Vec<HookSpec>,
    /// Where the credential is written. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<WorkloadVolumeSpec>,
}

/// One thing to do after a new generation: exactly one of `exec` and `signal`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookSpec {
    /// A program and its arguments; no shell reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// How long the program may run, in seconds; 30 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// A signal to a program that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalSpec>,
}

/// Whom to send which signal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalSpec {
    /// The file whose first line is the process id. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// The signal's name without `SIG`. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

/// A directory for one credential. Modes are octal texts such as `0640`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadVolumeSpec {
    /// The directory; a relative path starts at the directory of the file it stands in. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The owner of directory and files: a user's name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group of directory and files: its name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The mode of directories; `0755` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_mode: Option<String>,
    /// The mode of files that contain the private key; `0640` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<String>,
    /// The mode of the other files; `0644` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<String>,
    /// Whether the private key may be written to a filesystem that is not in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_disk: Option<bool>,
}

/// Reads a `spec`; what is wrong with its form goes to the decoder.
pub(super) fn decode(decoder: &mut Decoder, at: At<'_>) -> WorkloadSpec {
    let known = [
        "trustDomain",
        "namespace",
        "serviceAccount",
        "tokenFile",
        "commonName",
        "dnsNames",
        "onRotate",
        "volume",
    ];
    let Some(fields) = decoder.map(at, &known) else {
        return WorkloadSpec::default();
    };
    WorkloadSpec {
        trust_domain: fields.get("trustDomain").and_then(|at| decoder.string(&at)),
        namespace: fields.get("namespace").and_then(|at| decoder.string(&at)),
        service_account: fields
            .get("serviceAccount")
            .and_then(|at| decoder.string(&at)),
        token_file: fields.get("tokenFile").and_then(|at| decoder.string(&at)),
        common_name: fields.get("commonName").and_then(|at| decoder.string(&at)),
        dns_names: fields
            .get("dnsNames")
            .and_then(|at| decoder.strings(&at))
            .unwrap_or_default(),
        on_rotate: fields
            .get("onRotate")
            .and_then(|at| decoder.list(&at))
            .unwrap_or_default()
            .into_iter()
            .map(|at| hook(decoder, at))
            .collect(),
        volume: fields.get("volume").map(|at| volume(decoder, at)),
    }
}

fn hook(decoder: &mut Decoder, at: At<'_>) -> HookSpec {
    let Some(fields) = decoder.map(at, &["exec", "timeoutSeconds", "signal"]) else {
        return HookSpec::default();
    };
    HookSpec {
        exec: fields.get("exec").and_then(|at| decoder.strings(&at)),
        timeout_seconds: fields
            .get("timeoutSeconds")
            .and_then(|at| decoder.integer(&at)),
        signal: fields.get("signal").map(|at| signal(decoder, at)),
    }
}

fn signal(decoder: &mut Decoder, at: At<'_>) -> SignalSpec {
    let Some(fields) = decoder.map(at, &["pidFile", "signal"]) else {
        return SignalSpec::default();
    };
    SignalSpec {
        pid_file: fields.get("pidFile").and_then(|at| decoder.string(&at)),
        signal: fields
            .get("signal")
            .and_then(|at| decoder.word(&at, &HookSignal::ALL.map(HookSignal::as_str))),
    }
}

fn volume(decoder: &mut Decoder, at: At<'_>) -> WorkloadVolumeSpec {
    let known = [
        "path",
        "owner",
        "group",
        "directoryMode",
        "keyMode",
        "fileMode",
        "allowDisk",
    ];
    let Some(fields) = decoder.map(at, &known) else {
        return WorkloadVolumeSpec::default();
    };
    WorkloadVolumeSpec {
        path: fields.get("path").and_then(|at| decoder.string(&at)),
        owner: fields
            .get("owner")
            .and_then(|at| decoder.name_or_number(&at)),
        group: fields
            .get("group")
            .and_then(|at| decoder.name_or_number(&at)),
        directory_mode: fields.get("directoryMode").and_then(|at| decoder.mode(&at)),
        key_mode: fields.get("keyMode").and_then(|at| decoder.mode(&at)),
        file_mode: fields.get("fileMode").and_then(|at| decoder.mode(&at)),
        allow_disk: fields.get("allowDisk").and_then(|at| decoder.boolean(&at)),
    }
}
