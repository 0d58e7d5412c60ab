//! The DNS of a cluster, told to ask the gateways about the zone of the cluster set, for a person who runs `fedctl`.
//!
//! Owns what is read for it, and how it is written: one key of one ConfigMap at a time, only in the version that was read, so
//! that no edit of anybody is lost. Never decides what becomes of a text: `survey` does, and below it `corefile`.
//!
//! ```text
//! ConfigMaps of kube-system ──> Survey ── plan ──> steps ── carry_out ──> Applied
//! Service landbridge-dns ── addresses ──┘             └── somebody else was faster: Survey again
//! ```

use std::{collections::BTreeMap, fmt, net::IpAddr};

use federation_model::{names::Namespace, sni::Zone};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, Error, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use crate::{
    connect::Cluster,
    install::{Applied, FIELD_MANAGER, PART_OF, Refusal, told},
};

mod edit;
mod keeper;
mod stub;
mod survey;

use survey::Config;
pub use survey::{Found, State, Survey};

/// Where the DNS of every cluster is, but for those whose provider hides it.
const SYSTEM: &str = "kube-system";
/// The Service of the gateways' DNS.
const SERVICE: &str = "landbridge-dns";
/// How often a write is tried again that somebody else was faster than: people and controllers write these seldom.
const ATTEMPTS: usize = 5;
/// The most ConfigMaps that are looked through for a CoreDNS under another name.
const MAX_CANDIDATES: u32 = 50;

/// What is to become of the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The zone.
    pub zone: Zone,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have these addresses asked.
    Install {
        /// The gateways' DNS.
        servers: Vec<IpAddr>,
        /// Also where somebody else serves the zone.
        force: bool,
    },
    /// Have nobody asked.
    Uninstall,
}

impl Intent {
    fn without_force(&self) -> Self {
        let action = match &self.action {
            Action::Install { servers, .. } => Action::Install { servers: servers.clone(), force: false },
            Action::Uninstall => Action::Uninstall,
        };
        Self { zone: self.zone.clone(), action }
    }
}

/// A key of a ConfigMap of `kube-system`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The ConfigMap.
    pub name: String,
    /// The key.
    pub key: String,
}

impl Place {
    fn new(name: &str, key: &str) -> Self {
        Self { name: name.to_owned(), key: key.to_owned() }
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        SYSTEM
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigMap {SYSTEM}/{} {}", self.name, self.key)
    }
}

/// What is to be done in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub place: Place,
    /// What.
    pub plan: Plan,
    /// What a person should know of it.
    pub notes: Vec<String>,
    /// What must be restarted afterwards, since it does not follow changes: a workload of `kube-system`.
    pub restart: Option<String>,
    base: Option<Base>,
    annotation: Option<(&'static str, Option<String>)>,
    /// It is right only if what is before it has been written.
    follows: bool,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Its text changes; none: it is not there.
    Change {
        /// The text now.
        before: Option<String>,
        /// The text to come.
        after: Option<String>,
    },
    /// It stays as it is.
    Unchanged,
    /// It cannot be.
    Refused(Refusal),
}

/// The object that a plan was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    version: String,
    /// It was made for this key alone, and goes with it.
    goes: bool,
}

/// Why the DNS of a cluster cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The gateways have no Service.
    #[error("there is no Service {namespace}/{SERVICE}")]
    NoService {
        /// Where it was looked for.
        namespace: Namespace,
    },
    /// It has no address.
    #[error("the Service {namespace}/{SERVICE} has no address inside the cluster")]
    NoAddress {
        /// Where it is.
        namespace: Namespace,
    },
    /// No DNS was found.
    #[error(
        "no DNS of this cluster was found: in {SYSTEM} there is no ConfigMap coredns with a Corefile, none of another name labelled \
         k8s-app=kube-dns or coredns, and no ConfigMap kube-dns or node-local-dns"
    )]
    NotFound,
    /// The API server refused to show something.
    #[error("{what} cannot be read: {}", refusal.reason)]
    Unread {
        /// What.
        what: String,
        /// What it said.
        refusal: Refusal,
    },
}

impl DnsError {
    /// What to do next.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoService { .. } => {
                "fedctl install gateway, or --namespace NAMESPACE where it is installed".to_owned()
            }
            Self::NoAddress { .. } => {
                "a Service of type ClusterIP that is not headless, as fedctl install makes it".to_owned()
            }
            Self::NotFound => "tell it by hand, as docs/install.md#names says".to_owned(),
            Self::Unread { refusal, .. } => refusal.remedy.clone(),
        }
    }
}

impl Cluster {
    /// The addresses of the gateways' DNS inside the cluster, of both families where it has both.
    ///
    /// # Errors
    /// When the Service is not there, has none, or cannot be read.
    pub async fn dns_servers(&self, namespace: &Namespace) -> Result<Vec<IpAddr>, DnsError> {
        let services: Api<Service> = Api::namespaced(self.client(), namespace.as_str());
        let read = services.get_opt(SERVICE).await;
        let what = || format!("Service {namespace}/{SERVICE}");
        let service = read.map_err(|error| DnsError::Unread { refusal: refusal(&error, &what()), what: what() })?;
        let spec =
            service.ok_or_else(|| DnsError::NoService { namespace: namespace.clone() })?.spec.unwrap_or_default();
        let addresses = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let addresses: Vec<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        if addresses.is_empty() {
            return Err(DnsError::NoAddress { namespace: namespace.clone() });
        }
        Ok(addresses)
    }

    /// What there is of DNS.
    ///
    /// # Errors
    /// When there is none that is known, or it cannot be read.
    pub async fn survey_dns(&self) -> Result<Survey, DnsError> {
        let survey = Survey {
            core: self.core_dns().await?,
            custom: self.config(survey::CUSTOM).await?.unwrap_or_else(|| Config::missing(survey::CUSTOM)),
            kube_dns: self.config(survey::KUBE_DNS).await?,
            node_local: self.config(survey::NODE_LOCAL).await?,
        };
        if survey.is_empty() { Err(DnsError::NotFound) } else { Ok(survey) }
    }

    /// Does what was planned. When somebody else has written meanwhile, it is planned anew on what they wrote, and without force:
    /// a person has allowed it for what they were shown.
    pub async fn carry_out(&self, step: Step, intent: &Intent) -> Applied {
        let (intent, place, follows) = (intent.without_force(), step.place.clone(), step.follows);
        // What comes before it may not have been written.
        let mut planned = if follows { self.plan_anew(&place, &intent).await } else { Ok(Some(step)) };
        let mut said = String::new();
        for _ in 0..ATTEMPTS {
            let step = match planned {
                Ok(Some(step)) => step,
                Ok(None) if follows => return Applied::Unchanged,
                Ok(None) => break,
                Err(error) => return Applied::Refused(Refusal { reason: error.to_string(), remedy: error.remedy() }),
            };
            if let Plan::Refused(refusal) = step.plan {
                return Applied::Refused(refusal);
            }
            match self.write(&step).await {
                Ok(applied) => return applied,
                Err(Error::Api(status)) if status.code == 409 || status.code == 404 => said.clone_from(&status.message),
                Err(error) => return Applied::Refused(refusal(&error, &place.to_string())),
            }
            planned = self.plan_anew(&place, &intent).await;
        }
        let reason = format!("somebody else writes it at the same time: {said}");
        Applied::Refused(Refusal { reason, remedy: "the same command again: nothing of theirs was lost".to_owned() })
    }

    async fn plan_anew(&self, place: &Place, intent: &Intent) -> Result<Option<Step>, DnsError> {
        let steps = self.survey_dns().await?.plan(intent);
        Ok(steps.into_iter().find(|step| step.place == *place))
    }

    async fn write(&self, step: &Step) -> Result<Applied, Error> {
        let Plan::Change { after, .. } = &step.plan else { return Ok(Applied::Unchanged) };
        let (api, Place { name, key }) = (self.config_maps(), &step.place);
        let Some(base) = &step.base else {
            let made: ConfigMap = serde_json::from_value(json!({
                "metadata": { "name": name, "labels": { PART_OF.0: PART_OF.1 } },
                "data": { key: after },
            }))
            .map_err(Error::SerdeError)?;
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            return api.create(&params, &made).await.map(|_| Applied::Created);
        };
        if base.goes && after.is_none() {
            let same = Preconditions { resource_version: Some(base.version.clone()), uid: None };
            let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
            return api.delete(name, &params).await.map(|_| Applied::Configured);
        }
        let mut metadata = json!({ "resourceVersion": base.version });
        if let Some((annotation, value)) = &step.annotation {
            metadata["annotations"] = json!({ (*annotation): value });
        }
        let patch: Value = json!({ "metadata": metadata, "data": { key: after } });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(name, &params, &Patch::Merge(&patch)).await.map(|_| Applied::Configured)
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client(), SYSTEM)
    }

    async fn config(&self, name: &str) -> Result<Option<Config>, DnsError> {
        let read = self.config_maps().get_opt(name).await;
        read.map(|found| found.map(Config::from)).map_err(|error| unread(&error, name))
    }

    /// The ConfigMap of CoreDNS, which some distributions give another name.
    async fn core_dns(&self) -> Result<Option<Config>, DnsError> {
        let has_corefile = |config: &Config| config.data.contains_key(survey::COREFILE);
        if let Some(config) = self.config(survey::COREDNS).await?.filter(has_corefile) {
            return Ok(Some(config));
        }
        let params = ListParams::default().labels("k8s-app in (kube-dns,coredns)").limit(MAX_CANDIDATES);
        let listed = self.config_maps().list(&params).await.map_err(|error| unread(&error, survey::COREDNS))?;
        let mut configs = listed.items.into_iter().map(Config::from);
        Ok(configs.find(|config| has_corefile(config) && config.name != survey::NODE_LOCAL))
    }
}

impl From<ConfigMap> for Config {
    fn from(object: ConfigMap) -> Self {
        let version = object.resource_version();
        let labels: BTreeMap<_, _> = object.labels().clone();
        let annotations: BTreeMap<_, _> = object.annotations().clone();
        Self { name: object.name_any(), version, labels, annotations, data: object.data.unwrap_or_default() }
    }
}

fn unread(error: &Error, name: &str) -> DnsError {
    let what = format!("ConfigMap {SYSTEM}/{name}");
    DnsError::Unread { refusal: refusal(error, &what), what }
}

/// What the API server said, and what to do about it.
fn refusal(error: &Error, what: &str) -> Refusal {
    let forbidden = matches!(error, Error::Api(status) if status.is_forbidden());
    let remedy = if forbidden {
        format!("--context with one that may do this with {what}, or ask who administers the cluster")
    } else {
        "the same command again: what is done already stays as it is".to_owned()
    };
    Refusal { reason: told(error), remedy }
}
