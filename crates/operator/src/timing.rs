//! Every interval of the operator, why it has its length, and where that comes from.

use std::time::Duration;

/// How long the passes that run get to end after SIGTERM. With [`RELEASE`] it stays below upstream's
/// terminationGracePeriodSeconds of 10, after which the kubelet kills.
pub const DRAIN: Duration = Duration::from_secs(7);

/// How long giving the lease back may take at shutdown; the next replica would have to wait out the lease's 15 s
/// otherwise, so one lost packet with its retransmission is worth waiting for.
pub const RELEASE: Duration = Duration::from_secs(2);

/// How long events that are queued may still be sent at shutdown: they are informational, so much less than [`DRAIN`].
pub const EVENT_FLUSH: Duration = Duration::from_millis(500);

/// How long one event may take: an API server that hangs must not hold up the ones behind it for long.
pub const EVENT_PUBLISH: Duration = Duration::from_secs(5);

/// How long an equal event is counted instead of sent anew; the window of client-go's event correlator.
pub const EVENT_SERIES: Duration = Duration::from_mins(10);

/// How often the log says that events can't be sent: once an hour tells, and a cluster without the permission isn't
/// flooded.
pub const EVENT_FAILURE_LOG: Duration = Duration::from_hours(1);

/// How long one step of a pass may take. It covers one AWS call with its time-outs and the API server's own retries; a
/// request that hangs for ever must not keep the object from its next pass.
pub const STEP: Duration = Duration::from_mins(1);

/// The wait after the first failed pass; AWS's own SDKs begin with a second.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// The longest wait between failed passes: upstream's is 1,000 s, after which nobody believes in a repair any more.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(256);

/// The wait after a throttle reply, which the limiter answers by slowing down.
pub const AFTER_THROTTLE: Duration = Duration::from_secs(1);

/// When an object in the queue for quota asks again by itself. The queue wakes it; this is the net.
pub const QUEUE_CHECK: Duration = Duration::from_mins(5);

/// A wait for quota shorter than this isn't worth a status write.
pub const WAIT_WORTH_TELLING: Duration = Duration::from_secs(2);

/// The least time after which an object in the queue looks whether its place is worth telling anew. A thousand that wait
/// write some four times a second together.
pub const PLACE_CHECK: Duration = Duration::from_mins(1);

/// How much earlier than its object a run may seem to have been created: clocks differ, and lists compare whole seconds.
pub const CLOCK_SKEW: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// How long a watch lasts before it is renewed. Load balancers in front of API servers cut idle connections after
/// 240 s, and a connection that was cut unnoticed is silent.
pub const WATCH_SECONDS: u32 = 200;

/// How long a watch that failed waits at most before it is tried again: seven requests a minute and kind don't keep an API
/// server down, and runs that are applied meanwhile start that much later.
pub const WATCH_RETRY: Duration = Duration::from_secs(8);

/// How long nothing may come from the API server where something is awaited: ten seconds more than [`WATCH_SECONDS`], after
/// which it ends a watch on which nothing happens. Without a bound a connection that was cut unnoticed is waited for
/// for ever.
pub const API_SILENCE: Duration = Duration::from_secs(210);

/// Objects in a page of a list; kube's own default, which keeps a page below 2 MiB here.
pub const LIST_PAGE: u32 = 500;

/// How often a virtual cluster is read again to notice what others did to it; upstream does so every 10 h.
pub const CLUSTER_RESYNC: Duration = Duration::from_mins(10);

/// How often shadow mode looks at all objects, for the statuses that another controller writes: those are no reason for
/// a pass. An object is judged once in each version, so that this costs calls only for what has changed.
pub const SHADOW_SWEEP: Duration = Duration::from_secs(10);

/// How often a virtual cluster that is being terminated is read: it takes from seconds to over an hour, and the bucket
/// of DescribeVirtualCluster refills at 5 a second.
pub const TERMINATION_CHECK: Duration = Duration::from_secs(5);

/// How often a process that works without the lease, since it may not use it, asks whether it may by now. Until then it
/// could be one of two that work.
pub const LEASE_CHECK: Duration = Duration::from_secs(3);

/// How often the start-up checks (API server, definitions, AWS identity) are repeated.
pub const START_UP_RETRY: Duration = Duration::from_secs(2);

/// For how long no step of a pass and no call of a look may end before /healthz calls the process stuck, while there is
/// work. It is several times [`STEP`], so that what hangs ends by its own time-out long before.
pub const STUCK: Duration = Duration::from_mins(5);

/// How often it is looked up what the API server has and allows. RBAC that is withdrawn doesn't end a watch that runs, so
/// for [`WATCH_SECONDS`] nothing else might tell. It is some twenty requests that read nothing from etcd but two objects.
pub const ACCESS_CHECK: Duration = Duration::from_secs(30);

/// How often a namespace that can't be watched is looked at: an edit of its annotations is meant to take effect soon, and
/// there are as many of these requests as namespaces are named.
pub const NAMESPACE_LOOK: Duration = Duration::from_secs(10);

/// How long one of these requests may take: far more than an API server at work needs.
pub const ACCESS_REQUEST: Duration = Duration::from_secs(10);

/// When a virtual cluster is read first after its deletion was asked for: an empty one ends within a second or so.
pub const TERMINATION_FIRST_CHECK: Duration = Duration::from_secs(1);

/// How soon and how late an object that went without us gets its next pass: nothing wakes it, such are rare, and a pass
/// costs nothing while the poller has no news.
pub const VANISHED_LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long lists may lack a run that was started. AWS documents nothing; its lists are usually seconds behind.
pub const LISTS_LAG: Duration = Duration::from_secs(15);

/// For how long a list of the runs of a name serves those who come later: a pass that gave up waiting for it comes again.
pub const NAME_LIST_KEPT: Duration = Duration::from_mins(1);

/// For how long a start that had no answer is repeated by its token without a look at lists. For how long AWS remembers a
/// token isn't documented, but lists show the run long before.
pub const TOKEN_TRUST: Duration = Duration::from_mins(5);

/// When a list that may lack something is read again.
pub const LISTS_LAG_CHECK: Duration = Duration::from_secs(3);

/// How long after its creation a virtual cluster that can't be read is believed to be there.
pub const CREATION_LAG: Duration = Duration::from_mins(1);

/// How long an event waits at most while passes wait or are under way. A wave of 1,000 runs is through in a few seconds.
pub const EVENT_HOLD: Duration = Duration::from_secs(2);

/// How long reports go one after the other before more go side by side. A look at a virtual cluster wakes a handful of
/// runs, whose writes take some milliseconds each.
pub const REST_PATIENCE: Duration = Duration::from_millis(100);

/// After how long they take as many passes as starts may: thousands are being reported or released then, and what counts
/// is to be through with them.
pub const REST_PATIENCE_WITH_MANY: Duration = Duration::from_secs(1);

/// How long they go one after the other at most while objects wait to be started. Cancels and lists are among them,
/// which can take seconds.
pub const REST_PATIENCE_WITH_STARTS: Duration = Duration::from_secs(2);

/// For how long what was read of a role counts: runs that are applied together don't ask for it one by one.
pub const ROLE_ANSWER: Duration = Duration::from_secs(1);

/// How soon and how late a role that a run waits for is read again: a wait that has just begun ends soon, and a hundred
/// runs that wait for days cost the API server a few reads a second.
pub const ROLE_CHECK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long an export waits for others that write its target: a thousand writes of some milliseconds would go through.
pub const EXPORT_TURN: Duration = Duration::from_secs(2);

/// How often an export is looked at although its source hasn't changed, since targets aren't watched: somebody may have
/// taken the key out of one. It costs two reads.
pub const EXPORT_RESYNC: Duration = Duration::from_hours(1);

/// The same where the source isn't watched, as it has other labels than this operator works on.
pub const EXPORT_RESYNC_UNWATCHED: Duration = Duration::from_mins(10);
