//! What to do next about a pod: lines to paste into a shell, the most useful first.
use super::{
    super::{
        cluster::{self, DRIVER_LABEL, State, Unseen, system},
        report::{Finding, NextStep, Skip},
        text::shell_word,
    },
    facts::{Around, Facts, Wanted},
    objects::{Mode, Pod},
    report::{Check, CheckId, Evidence},
};
use crate::kube::Kind;

/// The steps, and what they are made of.
struct Next<'a> {
    wanted: &'a Wanted,
    pod: Option<&'a Pod>,
    around: Option<&'a Around>,
    evidence: &'a Evidence,
}

/// The next steps for a cause.
pub(super) fn steps(
    wanted: &Wanted,
    facts: &Facts,
    cause: &Check,
    evidence: &Evidence,
) -> Vec<NextStep> {
    let cluster = facts.cluster.as_ref().ok();
    let next = Next {
        wanted,
        pod: cluster.and_then(|there| there.pod.as_ref().ok()?.as_ref()),
        around: cluster.and_then(|there| there.around.as_ref()),
        evidence,
    };
    if matches!(cause.finding, Finding::Skipped(Skip::Unable, _)) {
        let unseen = cluster.and_then(|there| match cause.id {
            CheckId::Pod => there.pod.as_ref().err(),
            id => next.unseen(id),
        });
        if let Some(unseen) = unseen {
            return vec![unseen.step()];
        }
    }
    next.of(cause.id)
}

impl Next<'_> {
    /// Why the check could not look.
    fn unseen(&self, id: CheckId) -> Option<&Unseen> {
        let around = self.around?;
        match id {
            CheckId::DriverObject => around.driver_object.as_ref().err(),
            CheckId::Driver => around.driver.as_ref().err(),
            CheckId::Configuration => around.objects.iter().find_map(|one| one.as_ref().err()),
            CheckId::Controller => around.controller.led.as_ref().err(),
            CheckId::Request => around.requests.as_ref().err(),
            _ => None,
        }
    }

    fn of(&self, id: CheckId) -> Vec<NextStep> {
        match id {
            CheckId::ApiServer => vec![
                NextStep::new("does the API server answer?", "kubectl get --raw /readyz"),
                NextStep::new(
                    "again, by a kubeconfig that works here",
                    &format!(
                        "certagent inspect pod {} --kubeconfig FILE",
                        shell_word(&self.wanted.pod())
                    ),
                ),
            ],
            CheckId::Pod => vec![self.kubectl("which pods are there?", "get pods --output wide")],
            CheckId::Volume => vec![
                NextStep::new(
                    "a pod with the volume, to write it as there",
                    "kubectl create --dry-run=client --output yaml -f deploy/example-pod.yaml",
                ),
                self.kubectl(
                    "what makes the pod?",
                    &format!(
                        "get pod {} --output jsonpath='{{.metadata.ownerReferences}}'",
                        self.name()
                    ),
                ),
            ],
            CheckId::Phase | CheckId::Scheduled => vec![self.describe()],
            CheckId::DriverObject => vec![
                NextStep::new(
                    "the object as it has to be; the API server forbids some changes, then delete it first",
                    &format!("kubectl apply -f deploy/{}", self.manifest()),
                ),
                NextStep::new(
                    "as it is",
                    &format!(
                        "kubectl get csidriver {} --output yaml",
                        shell_word(&self.wanted.driver)
                    ),
                ),
            ],
            CheckId::Driver => self.driver(),
            CheckId::Configuration => vec![
                NextStep::new(
                    "everything that is wrong with the objects, and how far the controller is",
                    "certagent inspect config --cluster",
                ),
                NextStep::new(
                    "as they are",
                    &format!(
                        "kubectl get {} --output yaml",
                        Kind::ALL.map(Kind::definition).join(",")
                    ),
                ),
            ],
            CheckId::Controller => cluster::controller_steps(
                self.around
                    .is_some_and(|around| around.controller.is_missing()),
            ),
            CheckId::OtherNodes => self.alarm(),
            CheckId::Request => vec![self.driver_log(), self.inspect_node(), self.describe()],
            CheckId::Approval => vec![
                self.describe_request(),
                cluster::controller_log(self.newest()),
            ],
            CheckId::Signature => self.signature(),
            CheckId::Certificate => vec![
                NextStep::new(
                    "what was signed",
                    &format!(
                        "kubectl get csr {} --output jsonpath='{{.status.certificate}}' | base64 -d \
                         | openssl x509 -noout -text",
                        self.signed()
                    ),
                ),
                self.driver_log(),
            ],
            CheckId::Mount => vec![self.describe(), self.driver_log(), self.inspect_node()],
        }
    }

    fn name(&self) -> String {
        shell_word(&self.wanted.name)
    }

    /// In the pod's namespace.
    fn kubectl(&self, why: &str, what: &str) -> NextStep {
        let namespace = shell_word(&self.wanted.namespace);
        NextStep::new(why, &format!("kubectl --namespace {namespace} {what}"))
    }

    fn describe(&self) -> NextStep {
        self.kubectl(
            "the pod with its events",
            &format!("describe pod {}", self.name()),
        )
    }

    fn manifest(&self) -> &'static str {
        match self.evidence.mode {
            Some(Mode::PodTokens) => "csidriver-reflected.yaml",
            _ => "csidriver.yaml",
        }
    }

    fn driver(&self) -> Vec<NextStep> {
        let Some(driver) = &self.evidence.driver_pod else {
            return vec![
                system(
                    "where does the driver run?",
                    &format!("get pods --output wide --selector {DRIVER_LABEL}"),
                ),
                NextStep::new(
                    "the driver, on every node",
                    "kubectl apply -f deploy/node.yaml",
                ),
            ];
        };
        let driver = shell_word(driver);
        vec![
            system(
                "the driver's pod with its events",
                &format!("describe pod {driver}"),
            ),
            system(
                "what does the driver's log say?",
                &format!("logs {driver} --tail=100"),
            ),
        ]
    }

    fn driver_log(&self) -> NextStep {
        let about = format!(" | grep --fixed-strings -- {}", shell_word(&self.about()));
        let why = "what does the driver's log say?";
        match &self.evidence.driver_pod {
            Some(driver) => {
                let driver = shell_word(driver);
                system(why, &format!("logs {driver} --tail=-1{about}"))
            }
            None => system(
                why,
                &format!("logs --selector {DRIVER_LABEL} --tail=-1{about}"),
            ),
        }
    }

    /// What the driver calls the volume in its log.
    fn about(&self) -> String {
        let account = self.pod.map(|pod| &pod.service_account);
        account.map_or_else(
            || format!("/ns/{}/", self.wanted.namespace),
            |account| format!("/ns/{}/sa/{account}", self.wanted.namespace),
        )
    }

    fn inspect_node(&self) -> NextStep {
        let driver = self.evidence.driver_pod.as_deref().unwrap_or("POD");
        system(
            "is the node at fault?",
            &format!("exec {} -- /certagent inspect node", shell_word(driver)),
        )
    }

    /// The newest request of the pod's own node.
    fn newest(&self) -> Option<&str> {
        let newest = self.around?.own(self.pod).next()?;
        Some(&newest.name)
    }

    fn signed(&self) -> String {
        let signed = self.around.and_then(|around| {
            let mut own = around.own(self.pod);
            own.find(|one| one.state == State::Signed)
        });
        shell_word(signed.map_or("NAME", |one| &one.name))
    }

    fn describe_request(&self) -> NextStep {
        let name = shell_word(self.newest().unwrap_or("NAME"));
        NextStep::new(
            "the request with who made it",
            &format!("kubectl describe csr {name}"),
        )
    }

    fn signature(&self) -> Vec<NextStep> {
        let mut steps = vec![NextStep::new(
            "does the controller have what it signs by?",
            "certagent inspect config --cluster",
        )];
        let pool = self.around.and_then(|around| around.pools().first());
        steps.extend(pool.map(|pool| {
            NextStep::new(
                "would the pool issue? with the flags and as the user by which the controller asks",
                &format!("certagent inspect pool {}", shell_word(pool)),
            )
        }));
        steps.push(cluster::controller_log(self.newest()));
        steps
    }

    fn alarm(&self) -> Vec<NextStep> {
        let foreign = self.around.and_then(|around| {
            let mut foreign = around.foreign(self.pod);
            foreign.next()
        });
        let node = foreign
            .and_then(|one| one.node.as_deref())
            .unwrap_or("NODE");
        let node = shell_word(node);
        let name = shell_word(foreign.map_or("NAME", |one| &one.name));
        vec![
            NextStep::new(
                "who asked, by which pod's token",
                &format!("kubectl get csr {name} --output yaml"),
            ),
            NextStep::new(
                "no new pods on that node",
                &format!("kubectl cordon {node}"),
            ),
            system(
                "its driver's token ends with its pod",
                &format!(
                    "delete pod --selector {DRIVER_LABEL} --field-selector spec.nodeName={node}"
                ),
            ),
        ]
    }
}
