//! From documents to objects: what each one is, and its own problems.

use certagent_svid::TrustDomain;

use super::decode::{At, Decoder};
use super::policy::{CertificatePolicy, TrustPolicy};
use super::problem::{Checked, FieldProblem, did_you_mean, nearest, quote};
use super::report::{Place, Report};
use super::rule::Rule;
use super::tree::{Node, Value};
use super::validate::{self, ApiVersion, DeclaredWorkload};
use super::yaml::Documents;
use super::{Settings, Source, annotations, certificates, trust, workload};
use crate::dns;
use crate::spread_rotation::{ROTATE_AFTER, SpreadRotation};

const GOOGLE_VERSIONS: [&str; 2] = [
    "security.cloud.google.com/v1",
    "security.cloud.google.com/v1alpha1",
];
const OWN_VERSIONS: [&str; 1] = ["certagent.dev/v1alpha1"];

/// Everything that the sources contain.
pub(super) struct Reading<'s> {
    settings: &'s Settings,
    pub(super) report: Report<'s>,
    pub(super) certificates: Option<FoundCertificates>,
    pub(super) trust: Option<FoundTrust>,
    pub(super) workloads: Vec<FoundWorkload>,
    /// Something could not be recognised, so that what seems to be missing may be there.
    pub(super) is_incomplete: bool,
}

pub(super) struct FoundCertificates {
    /// Where the object starts.
    place: Place,
    /// The trust domain that `v1alpha1` names, and where.
    pub(super) trust_domain: Option<(TrustDomain, Place)>,
    pub(super) policy: Option<CertificatePolicy>,
    pub(super) spread_rotation: Option<SpreadRotation>,
}

pub(super) struct FoundTrust {
    place: Place,
    /// Where `spec.trustStores` is.
    pub(super) stores_place: Place,
    pub(super) policy: Option<TrustPolicy>,
}

pub(super) struct FoundWorkload {
    /// Where the object starts.
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) path_place: Place,
    pub(super) trust_domain_place: Place,
    pub(super) declared: DeclaredWorkload,
}

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Certificates,
    Trust,
    Workload,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Certificates, Self::Trust, Self::Workload];

    const fn name(self) -> &'static str {
        match self {
            Self::Certificates => "WorkloadCertificateConfig",
            Self::Trust => "TrustConfig",
            Self::Workload => "Workload",
        }
    }

    const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Certificates | Self::Trust => &GOOGLE_VERSIONS,
            Self::Workload => &OWN_VERSIONS,
        }
    }
}

impl<'s> Reading<'s> {
    pub(super) fn new(sources: &'s [Source], settings: &'s Settings) -> Self {
        Self {
            settings,
            report: Report::new(sources),
            certificates: None,
            trust: None,
            workloads: Vec::new(),
            is_incomplete: false,
        }
    }

    /// Reads every document of a source.
    pub(super) fn source(&mut self, index: usize, source: &Source) {
        for document in Documents::new(&source.text) {
            let place = Place {
                source: Some(index),
                location: super::tree::Location::default(),
            };
            let object = document.root.as_ref().and_then(label);
            for problem in document.problems {
                let place = place.at(problem.location);
                if let Some(field) = problem.field {
                    let problem = FieldProblem::error(Rule::Unreadable, field, problem.message);
                    self.report.field(place, object.as_deref(), problem);
                } else {
                    self.is_incomplete = true;
                    let rule = Rule::Unreadable;
                    self.report.error(rule, place, None, &problem.message);
                }
            }
            if let Some(root) = &document.root {
                self.object(place.at(root.location), root);
            }
        }
    }

    fn object(&mut self, place: Place, root: &Node) {
        let Some(kind_text) = self.kind_text(place, root) else {
            self.is_incomplete = true;
            return;
        };
        if kind_text == "List" {
            self.list(place, root);
            return;
        }
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == kind_text) else {
            let names = Kind::ALL.map(Kind::name);
            self.is_incomplete |= nearest(kind_text, names).is_some();
            let message = format!(
                "{} is not read here{}",
                quote(kind_text),
                did_you_mean(kind_text, names)
            );
            let problem =
                FieldProblem::error(Rule::InvalidObject, "kind", message).allowed(names.join(", "));
            self.report
                .field(place.at(root.locate("kind")), None, problem);
            return;
        };
        let mut decoder = Decoder::default();
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        let fields = decoder.map(At::new(root, ""), &known);
        let version = api_version(&mut decoder, root, kind);
        let name = name(&mut decoder, root, kind);
        let spec = fields.and_then(|fields| fields.get("spec"));
        if spec.is_none() {
            let problem = FieldProblem::error(Rule::MissingSpec, "spec", "the field is required");
            decoder.add(root, vec![problem]);
        }
        match kind {
            Kind::Certificates => self.found_certificates(&mut decoder, root, place, version, spec),
            Kind::Trust => self.found_trust(&mut decoder, root, place, spec),
            Kind::Workload => self.found_workload(&mut decoder, root, place, name, spec),
        }
        let object = label(root);
        for (location, problem) in decoder.problems {
            self.report
                .field(place.at(location), object.as_deref(), problem);
        }
    }

    /// The objects in a `List`, as `kubectl get -o yaml` prints several.
    fn list(&mut self, place: Place, root: &Node) {
        if let Some(Value::Seq(items)) = root.get("items").map(|items| &items.value) {
            for item in items {
                self.object(place.at(item.location), item);
            }
        } else {
            self.is_incomplete = true;
            let problem =
                FieldProblem::error(Rule::InvalidObject, "items", "a List has a list of items");
            self.report
                .field(place.at(root.locate("items")), Some("List"), problem);
        }
    }

    /// The kind that the object names.
    fn kind_text<'n>(&mut self, place: Place, root: &'n Node) -> Option<&'n str> {
        const PARTS: &str = "apiVersion, kind, metadata and spec";
        let Value::Map(_) = root.value else {
            let message = format!("expected an object with {PARTS}, found {}", root.describe());
            self.report
                .error(Rule::InvalidObject, place, None, &message);
            return None;
        };
        let message = match root.get("kind") {
            Some(Node {
                value: Value::String(text),
                ..
            }) => return Some(text),
            Some(other) => format!("expected a text, found {}", other.describe()),
            None => format!("the field is required: an object has {PARTS}"),
        };
        let problem = FieldProblem::error(Rule::InvalidObject, "kind", message)
            .allowed(Kind::ALL.map(Kind::name).join(", "));
        self.report
            .field(place.at(root.locate("kind")), None, problem);
        None
    }

    fn found_certificates(
        &mut self,
        decoder: &mut Decoder,
        root: &Node,
        place: Place,
        version: ApiVersion,
        spec: Option<At<'_>>,
    ) {
        let spec = spec.map(|at| certificates::decode(decoder, at));
        let domain = spec.as_ref().and_then(|spec| spec.trust_domain.as_ref());
        let domain = domain.filter(|_| version == ApiVersion::V1alpha1);
        let trust_domain = domain.and_then(|text| TrustDomain::new(text).ok());
        let trust_domain = trust_domain.map(|one| (one, place.at(root.locate("spec.trustDomain"))));
        let settings = self.settings;
        let policy = checked(decoder, root, spec, |spec| {
            validate::certificates(spec, version, settings)
        });
        let spread_rotation = annotations::spread_rotation(decoder, root);
        annotations::unknown(decoder, root, &[ROTATE_AFTER]);
        if let Some(first) = self.certificates.as_ref().map(|first| first.place) {
            self.second(first, place, root);
        } else {
            self.certificates = Some(FoundCertificates {
                place,
                trust_domain,
                policy,
                spread_rotation,
            });
        }
    }

    fn found_trust(
        &mut self,
        decoder: &mut Decoder,
        root: &Node,
        place: Place,
        spec: Option<At<'_>>,
    ) {
        let spec = spec.map(|at| trust::decode(decoder, at));
        let policy = checked(decoder, root, spec, validate::trust);
        annotations::unknown(decoder, root, &[]);
        let stores_place = place.at(root.locate("spec.trustStores"));
        if let Some(first) = self.trust.as_ref().map(|first| first.place) {
            self.second(first, place, root);
        } else {
            self.trust = Some(FoundTrust {
                place,
                stores_place,
                policy,
            });
        }
    }

    fn found_workload(
        &mut self,
        decoder: &mut Decoder,
        root: &Node,
        place: Place,
        name: Option<String>,
        spec: Option<At<'_>>,
    ) {
        let spec = spec.map(|at| workload::decode(decoder, at));
        let declared = checked(decoder, root, spec, |spec| {
            validate::workload(spec, self.settings)
        });
        if let Some((name, declared)) = name.zip(declared) {
            self.workloads.push(FoundWorkload {
                place: place.at(root.locate("metadata.name")),
                name,
                path_place: place.at(root.locate("spec.volume.path")),
                trust_domain_place: place.at(root.locate("spec.trustDomain")),
                declared,
            });
        }
    }

    /// The workload of [`Settings::workload`].
    pub(super) fn flag_workload(&mut self) {
        let Some(spec) = &self.settings.workload else {
            return;
        };
        let place = Place::NOWHERE;
        if let Some(other) = self.workloads.first().map(|other| other.place) {
            let message = format!(
                "a workload is given by flags and another one in {}; use either flags or documents",
                self.report.show(other)
            );
            self.report
                .error(Rule::InvalidWorkload, place, None, &message);
            return;
        }
        let name = super::FLAG_WORKLOAD.to_owned();
        let object = format!("Workload/{name}");
        let Checked { value, problems } = validate::workload(spec, self.settings);
        for problem in problems {
            self.report.field(place, Some(&object), problem);
        }
        if let Some(declared) = value {
            let (path_place, trust_domain_place) = (place, place);
            let found = FoundWorkload {
                place,
                name,
                path_place,
                trust_domain_place,
                declared,
            };
            self.workloads.push(found);
        }
    }

    /// Two objects where there can be one.
    fn second(&mut self, first: Place, place: Place, root: &Node) {
        let message = format!(
            "there is one already at {}; there can be only one of this kind: keep one",
            self.report.show(first)
        );
        self.report.error(
            Rule::DuplicateObject,
            place,
            label(root).as_deref(),
            &message,
        );
    }
}

/// The meaning of a spec, if neither its form nor a rule is broken.
fn checked<S, T>(
    decoder: &mut Decoder,
    root: &Node,
    spec: Option<S>,
    check: impl FnOnce(&S) -> Checked<T>,
) -> Option<T> {
    let has_form = decoder.problems.is_empty();
    let Checked { value, problems } = check(&spec?);
    decoder.add(root, problems);
    value.filter(|_| has_form)
}

/// The version; where it is wrong, the one that allows most.
fn api_version(decoder: &mut Decoder, root: &Node, kind: Kind) -> ApiVersion {
    const FIELD: &str = "apiVersion";
    let known = kind.versions();
    let message = match root.get(FIELD).map(|node| &node.value) {
        Some(Value::String(text))
            if text == "security.cloud.google.com/v1" && known.contains(&text.as_str()) =>
        {
            return ApiVersion::V1;
        }
        Some(Value::String(text)) if known.contains(&text.as_str()) => return ApiVersion::V1alpha1,
        Some(Value::String(text)) => format!(
            "{} is not an apiVersion of {}{}",
            quote(text),
            kind.name(),
            did_you_mean(text, known.iter().copied())
        ),
        Some(_) => "expected a text".to_owned(),
        None => "the field is required".to_owned(),
    };
    let problem =
        FieldProblem::error(Rule::InvalidObject, FIELD, message).allowed(known.join(", "));
    decoder.problems.push((root.locate(FIELD), problem));
    ApiVersion::V1alpha1
}

/// The name, if it is one that this kind may have.
fn name(decoder: &mut Decoder, root: &Node, kind: Kind) -> Option<String> {
    const FIELD: &str = "metadata.name";
    let is_single = kind != Kind::Workload;
    let metadata = root.get("metadata");
    let problem = match metadata.map(|metadata| (&metadata.value, metadata.get("name"))) {
        Some((
            Value::Map(_),
            Some(Node {
                value: Value::String(name),
                ..
            }),
        )) => {
            if is_single && name == "default" {
                return Some(name.clone());
            } else if is_single {
                let message = format!(
                    "the name is {}, but only the object default counts",
                    quote(name)
                );
                FieldProblem::error(Rule::InvalidObject, FIELD, message).allowed("default")
            } else if dns::is_subdomain(name) {
                return Some(name.clone());
            } else {
                let message = format!("{} is not a name that Kubernetes allows", quote(name));
                FieldProblem::error(Rule::InvalidObject, FIELD, message)
                    .allowed("1 to 253 of a-z, 0-9, - and ., with a letter or digit at both ends")
            }
        }
        Some((Value::Map(_), Some(other))) => {
            let message = format!("expected a text, found {}", other.describe());
            FieldProblem::error(Rule::InvalidObject, FIELD, message).allowed(if is_single {
                "default"
            } else {
                "a text"
            })
        }
        None | Some((Value::Map(_), None)) => {
            FieldProblem::error(Rule::InvalidObject, FIELD, "the field is required").allowed(
                if is_single {
                    "default"
                } else {
                    "a name of its own"
                },
            )
        }
        Some(_) => {
            let found = metadata.map(Node::describe).unwrap_or_default();
            FieldProblem::error(
                Rule::InvalidObject,
                "metadata",
                format!("expected a map, found {found}"),
            )
        }
    };
    decoder
        .problems
        .push((root.locate(&problem.field), problem));
    None
}

/// `TrustConfig/default`, as far as it is known.
fn label(root: &Node) -> Option<String> {
    let text = |node: &Node| match &node.value {
        Value::String(text) => Some(text.chars().take(80).collect::<String>()),
        _ => None,
    };
    let kind = root.get("kind").and_then(text)?;
    match root
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(text)
    {
        Some(name) => Some(format!("{kind}/{name}")),
        None => Some(kind),
    }
}
