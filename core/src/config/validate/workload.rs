//! The rules of `Workload`.

use certagent_svid::TrustDomain;

use crate::config::Settings;
use crate::config::policy::{Hook, OwnerRef, VolumeSpec};
use crate::config::problem::{Checked, FieldProblem, quote};
use crate::config::rule::Rule;
use crate::config::workload::{WorkloadSpec, WorkloadVolumeSpec};
use crate::{dns, names::SubjectNames, request::SubjectMode};

/// A [`Workload`](crate::config::Workload) whose trust domain may still follow from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredWorkload {
    /// The trust domain, if the workload names it.
    pub trust_domain: Option<TrustDomain>,
    /// See [`Workload`](crate::config::Workload).
    pub namespace: String,
    /// See [`Workload`](crate::config::Workload).
    pub service_account: String,
    /// See [`Workload`](crate::config::Workload).
    pub token_file: Option<String>,
    /// See [`Workload`](crate::config::Workload).
    pub names: SubjectNames,
    /// See [`Workload`](crate::config::Workload).
    pub on_rotate: Vec<Hook>,
    /// See [`Workload`](crate::config::Workload).
    pub volume: VolumeSpec,
}

/// The meaning of a `Workload`, but for what depends on other objects.
pub fn workload(spec: &WorkloadSpec, settings: &Settings) -> Checked<DeclaredWorkload> {
    let mut problems = Vec::new();
    let trust_domain = spec
        .trust_domain
        .as_ref()
        .and_then(|text| super::trust_domain("spec.trustDomain", text, &mut problems));
    let namespace = name(
        "spec.namespace",
        spec.namespace.as_ref(),
        Name::Label,
        &mut problems,
    );
    let service_account = name(
        "spec.serviceAccount",
        spec.service_account.as_ref(),
        Name::Subdomain,
        &mut problems,
    );
    let token_file = token_file(
        spec.token_file.as_deref(),
        settings.subject_mode,
        &mut problems,
    );
    let names = super::names::names(spec, settings.subject_mode, &mut problems);
    let on_rotate = super::hooks::hooks(&spec.on_rotate, &mut problems);
    let volume = volume(spec.volume.as_ref(), &mut problems);
    let value = namespace.zip(service_account).zip(volume);
    let value = value.map(|((namespace, service_account), volume)| DeclaredWorkload {
        trust_domain,
        namespace,
        service_account,
        token_file,
        names,
        on_rotate,
        volume,
    });
    Checked::new(value, problems)
}

/// The two kinds of names in Kubernetes. Both are valid segments of a SPIFFE ID's path.
#[derive(Clone, Copy)]
enum Name {
    Label,
    Subdomain,
}

fn name(
    field: &str,
    text: Option<&String>,
    kind: Name,
    problems: &mut Vec<FieldProblem>,
) -> Option<String> {
    let allowed = match kind {
        Name::Label => "1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends",
        Name::Subdomain => {
            "1 to 253 of a-z, 0-9, - and ., with a letter or digit at both ends of each part"
        }
    };
    let fits = |text: &str| match kind {
        Name::Label => dns::is_label(text),
        Name::Subdomain => dns::is_subdomain(text),
    };
    let message = match text {
        None => "the field is required".to_owned(),
        Some(text) if fits(text) => return Some(text.clone()),
        Some(text) => format!("{} is not a name that Kubernetes allows", quote(text)),
    };
    problems.push(FieldProblem::error(Rule::InvalidWorkload, field, message).allowed(allowed));
    None
}

/// The path, if it is one; whether there has to be one depends on whose identity asks the CA.
fn token_file(
    text: Option<&str>,
    mode: Option<SubjectMode>,
    problems: &mut Vec<FieldProblem>,
) -> Option<String> {
    const FIELD: &str = "spec.tokenFile";
    let message = match text {
        None if mode == Some(SubjectMode::ReflectedSpiffe) => {
            "the field is required with --identity reflected: the workload's own token, which its \
             certificates are asked for with (--token-file on the command line)"
        }
        None => return None,
        Some("") => "the path is empty",
        Some(text) if text.contains('\0') => "a path cannot contain a NUL character",
        Some(text) if text.ends_with('/') => "a directory cannot be a token; name the file in it",
        Some(text) => {
            if mode == Some(SubjectMode::Default) {
                let message = "the file is not used: only with --identity reflected is the CA \
                               asked with the workload's own token";
                problems.push(FieldProblem::warning(Rule::InvalidWorkload, FIELD, message));
            }
            return Some(text.to_owned());
        }
    };
    let problem = FieldProblem::error(Rule::InvalidWorkload, FIELD, message);
    problems.push(problem.allowed("a file, absolute or relative to this file"));
    None
}

fn volume(
    spec: Option<&WorkloadVolumeSpec>,
    problems: &mut Vec<FieldProblem>,
) -> Option<VolumeSpec> {
    let Some(spec) = spec else {
        let message = "the field is required: where the credential is written";
        problems.push(FieldProblem::error(
            Rule::InvalidWorkload,
            "spec.volume",
            message,
        ));
        return None;
    };
    let path = path(spec.path.as_deref(), problems);
    let directory_mode = mode(Mode::Directory, spec.directory_mode.as_deref(), problems);
    let key_mode = mode(Mode::Key, spec.key_mode.as_deref(), problems);
    let file_mode = mode(Mode::File, spec.file_mode.as_deref(), problems);
    let owner = owner("spec.volume.owner", spec.owner.as_deref(), problems);
    let group = self::owner("spec.volume.group", spec.group.as_deref(), problems);
    Some(VolumeSpec {
        path: path?,
        owner,
        group,
        directory_mode,
        key_mode,
        file_mode,
        allow_disk: spec.allow_disk.unwrap_or(false),
    })
}

fn path(text: Option<&str>, problems: &mut Vec<FieldProblem>) -> Option<String> {
    let message = match text {
        None => "the field is required: the directory of the credential",
        Some("") => "the path is empty",
        Some(text) if text.contains('\0') => "a path cannot contain a NUL character",
        Some(text) if text.chars().all(|c| c == '/') => {
            "the root directory cannot be a volume; name a directory of its own"
        }
        Some(text) => return Some(text.to_owned()),
    };
    let problem = FieldProblem::error(Rule::InvalidWorkload, "spec.volume.path", message);
    problems.push(problem.allowed("a directory, absolute or relative to this file"));
    None
}

/// What a mode is for.
#[derive(Clone, Copy)]
enum Mode {
    Directory,
    Key,
    File,
}

impl Mode {
    const fn field(self) -> &'static str {
        match self {
            Self::Directory => "spec.volume.directoryMode",
            Self::Key => "spec.volume.keyMode",
            Self::File => "spec.volume.fileMode",
        }
    }

    const fn default(self) -> u32 {
        match self {
            Self::Directory => VolumeSpec::DIRECTORY_MODE,
            Self::Key => VolumeSpec::KEY_MODE,
            Self::File => VolumeSpec::FILE_MODE,
        }
    }

    /// Why a person should look at these bits, if they should.
    const fn concern(self, bits: u32) -> Option<&'static str> {
        match self {
            Self::Key if bits & 0o004 != 0 => {
                Some("everybody on this machine may read the private key; 0640 is usual")
            }
            Self::Directory | Self::Key | Self::File if bits & 0o002 != 0 => {
                Some("everybody on this machine may replace the credential")
            }
            _ => None,
        }
    }
}

fn mode(which: Mode, text: Option<&str>, problems: &mut Vec<FieldProblem>) -> u32 {
    let Some(text) = text else {
        return which.default();
    };
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal =
        (3..=6).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal);
    let message = match bits {
        None => format!("{} is not a file mode in octal", quote(text)),
        Some(bits) if bits & !0o777 != 0 => {
            format!(
                "{} has bits outside 0777 (setuid, setgid, sticky), which have no use here",
                quote(text)
            )
        }
        Some(bits) => {
            if let Some(concern) = which.concern(bits) {
                problems.push(FieldProblem::warning(
                    Rule::InvalidWorkload,
                    which.field(),
                    concern,
                ));
            }
            return bits;
        }
    };
    let allowed = format!(
        "\"0000\" to \"0777\", for example \"{:04o}\"",
        which.default()
    );
    problems
        .push(FieldProblem::error(Rule::InvalidWorkload, which.field(), message).allowed(allowed));
    which.default()
}

fn owner(field: &str, text: Option<&str>, problems: &mut Vec<FieldProblem>) -> Option<OwnerRef> {
    let text = text?;
    let message = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        match text.parse() {
            // The highest number means "leave as it is" to chown(2).
            Ok(id) if id < u32::MAX => return Some(OwnerRef::Id(id)),
            _ => format!("{} is not a user or group number", quote(text)),
        }
    } else if text.is_empty()
        || text.len() > 256
        || text.starts_with(['-', '+'])
        || text.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/'))
    {
        format!("{} is not the name of a user or group", quote(text))
    } else {
        return Some(OwnerRef::Name(text.to_owned()));
    };
    problems.push(
        FieldProblem::error(Rule::InvalidWorkload, field, message)
            .allowed("a name, or a number from 0 to 4294967294"),
    );
    None
}
