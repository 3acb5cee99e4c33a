//! Names that Molt writes into objects. They are part of the API: selectors in live clusters contain them.

/// The well-known label that says which tool an object belongs to.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value on everything that Molt creates.
pub const MOLT: &str = "molt";
/// The well-known label with the application's name.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// The PythonService that an object belongs to.
pub const SERVICE: &str = "molt.dev/service";
/// The revision that an object belongs to.
pub const REVISION: &str = "molt.dev/revision";
/// Annotation of a ReplicaSet: the attempt that used it last. Label of a Job: the attempt that it is of.
pub const ATTEMPT: &str = "molt.dev/attempt";
/// Annotation of a ReplicaSet: the serving port of its pods, which the spec no longer tells once it has
/// gone on to another revision.
pub const PORT: &str = "molt.dev/port";
/// Annotation of a ReplicaSet: a digest of its pod template when it was scaled first. A template that has another one
/// since was changed by somebody else.
pub const TEMPLATE: &str = "molt.dev/template-digest";
/// Annotation of a ReplicaSet: what its pods have beyond the user's template, because their server needs it.
pub const ADDED: &str = "molt.dev/added";
/// Annotation of a ReplicaSet: what the snapshots of its pods' configuration hold, as JSON.
pub const CONFIG: &str = "molt.dev/config";
/// Annotation of a Service: a digest of the user's labels and annotations on it.
pub const MARKS: &str = "molt.dev/service-metadata";
/// Annotation of a snapshot: the name of what it is a copy of.
pub const SNAPSHOT_OF: &str = "molt.dev/snapshot-of";
/// Annotation of a Secret's snapshot: the UID of the Secret that it is a copy of.
pub const SNAPSHOT_ORIGIN: &str = "molt.dev/snapshot-origin";
/// Annotation of a user's ConfigMap or Secret: with `"true"` its content is no part of any revision.
pub const FOLLOW: &str = "molt.dev/follow";

/// Annotation of a Deployment: the PythonService that has taken it over.
pub const ADOPTED_BY: &str = "molt.dev/adopted-by";
/// Annotation of a Deployment that was taken over: how many pods it had.
pub const FORMER_REPLICAS: &str = "molt.dev/former-replicas";
/// Annotation of a PythonService: who changed it, as far as whoever applies it says so. Kept in the record.
pub const AUTHOR: &str = "molt.dev/author";
/// The finalizer of a PythonService: a route of the user's is given back before the object goes.
pub const FINALIZER: &str = "molt.dev/rollout";
/// The field manager of everything that Molt writes but the number of pods.
pub const MANAGER: &str = "molt";
/// The field manager of the number of pods: content can be applied again without touching it.
pub const SCALE_MANAGER: &str = "molt-scale";
/// The label by which the control plane names the Service of an EndpointSlice.
pub const SLICE_SERVICE: &str = "kubernetes.io/service-name";
/// Label of a condition's Job: the condition's name.
pub const CONDITION: &str = "molt.dev/condition";
/// Label of a condition's Job: which run of it, from 1.
pub const RUN: &str = "molt.dev/run";
/// Label of a condition's Job: a digest of what it runs.
pub const DIGEST: &str = "molt.dev/job-digest";
/// Label of the pods of conditions' Jobs: the service. They have none of the labels by which a service's own pods
/// are found: they must neither be counted nor be sent requests.
pub const JOB_OF: &str = "molt.dev/job-of";
/// Label of the runs of what runs by a schedule: the service. They have none of the labels by which Jobs of conditions are
/// found; their pods are found as those of these are.
pub const RUN_OF: &str = "molt.dev/run-of";
/// Annotation of a CronJob: the revision that was stable when it was written.
pub const STABLE: &str = "molt.dev/stable";
/// Annotation of a CronJob: a digest of what is no part of a revision, such as its schedule.
pub const SCHEDULE: &str = "molt.dev/schedule-digest";
/// Annotation of the ReplicaSet of what runs by a schedule: the restart policy of its pods, which no ReplicaSet takes.
pub const RESTART_POLICY: &str = "molt.dev/restart-policy";
/// The label by which the control plane names the Job of a pod.
pub const POD_JOB: &str = "batch.kubernetes.io/job-name";
