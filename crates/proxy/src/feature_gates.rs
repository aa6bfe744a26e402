//! Feature gates: the names that Kubernetes 1.36 knows, their stage, and which of them are on.
//!
//! Operators give one list of gates to all components of a cluster, so every name of the shared registry is
//! accepted, though only a handful mean anything to a proxy. `AllAlpha` and `AllBeta` switch whole stages.

use std::collections::BTreeMap;

/// How far a feature has come; decides the default and what `AllAlpha` and `AllBeta` switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default.
    Alpha,
    /// Mostly on by default.
    Beta,
    /// Generally available.
    Stable,
    /// On its way out.
    Deprecated,
}

impl Stage {
    /// The label of metric `kubernetes_feature_enabled`; empty for general availability.
    pub fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Stable => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }
}

/// A gate of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Its stage in 1.36.
    pub stage: Stage,
    /// Its value when nobody sets it.
    pub default: bool,
    /// Whether it can no longer be set to anything but its default.
    pub locked: bool,
}

/// The gates' values: those set, over the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    set: BTreeMap<String, bool>,
}

/// Why gates cannot be set as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureGateError {
    /// No component knows the name.
    #[error("unrecognized feature gate: {0}")]
    Unrecognized(String),
    /// The gate's feature cannot be switched any more.
    #[error("cannot set feature gate {name} to {value}, feature is locked to {}", !.value)]
    Locked {
        /// The gate.
        name: String,
        /// The value that was asked for.
        value: bool,
    },
}

const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";

impl FeatureGates {
    /// Takes the values that flags or file ask for, after checking every name and lock.
    pub fn new(asked: &BTreeMap<String, bool>) -> Result<FeatureGates, FeatureGateError> {
        for (name, value) in asked {
            let gate = find(name).ok_or_else(|| FeatureGateError::Unrecognized(name.clone()))?;
            if gate.locked && *value != gate.default {
                return Err(FeatureGateError::Locked { name: name.clone(), value: *value });
            }
        }
        Ok(FeatureGates { set: asked.clone() })
    }

    /// Whether a feature is on; an unknown name is off.
    pub fn enabled(&self, name: &str) -> bool {
        find(name).is_some_and(|gate| self.value(&gate))
    }

    /// Every known gate with its value, for the metric `kubernetes_feature_enabled`.
    pub fn all(&self) -> impl Iterator<Item = (Gate, bool)> + '_ {
        registry().map(|gate| (gate, self.value(&gate)))
    }

    /// Warnings about gates that were set although their feature is settled.
    pub fn warnings(&self) -> Vec<String> {
        let settled = |name: &str| match find(name)?.stage {
            Stage::Stable => Some("GA"),
            Stage::Deprecated => Some("deprecated"),
            Stage::Alpha | Stage::Beta => None,
        };
        let warn = |(name, value): (&String, &bool)| {
            let stage = settled(name)?;
            Some(format!(
                "Setting {stage} feature gate {name}={value}. It will be removed in a future release."
            ))
        };
        self.set.iter().filter_map(warn).collect()
    }

    fn value(&self, gate: &Gate) -> bool {
        let stage_switch = match gate.stage {
            _ if gate.locked => None,
            Stage::Alpha => self.set.get(ALL_ALPHA),
            Stage::Beta => self.set.get(ALL_BETA),
            Stage::Stable | Stage::Deprecated => None,
        };
        *self.set.get(gate.name).or(stage_switch).unwrap_or(&gate.default)
    }
}

fn find(name: &str) -> Option<Gate> {
    registry().find(|gate| gate.name == name)
}

fn registry() -> impl Iterator<Item = Gate> {
    GATES.iter().flat_map(|&(stage, default, locked, names)| {
        names.split_whitespace().map(move |name| Gate { name, stage, default, locked })
    })
}

/// Gates by stage, default and lock.
const GATES: &[(Stage, bool, bool, &str)] = &[
    // The stage switches themselves.
    (Stage::Alpha, false, false, "AllAlpha"),
    (Stage::Beta, false, false, "AllBeta"),
    (
        Stage::Alpha,
        false,
        false,
        "APIServingWithRoutine AllowUnsafeMalformedObjectDeletion CBORServingAndStorage \
         CPUManagerPolicyAlphaOptions CSIVolumeHealth ClientsAllowCBOR ClientsPreferCBOR \
         CloudControllerManagerWatchBasedRoutesReconciliation CloudControllerManagerWebhook \
         CompositePodGroup ConditionalAuthorization ConstrainedImpersonation ContainerStopSignals \
         CPUCFSQuotaPeriod CRIListStreaming CrossNamespaceVolumeDataSource CustomCPUCFSQuotaPeriod \
         DRAConsumableCapacity DRADeviceBindingConditions DRADeviceTaintRules DRADeviceTaints \
         DRAExtendedResource DRAPartitionableDevices EventedPLEG GangScheduling GenericWorkload \
         HPAScaleToZero ImageVolumeWithDigest InPlacePodLevelResourcesVerticalScaling \
         InPlacePodVerticalScalingExclusiveCPUs InPlacePodVerticalScalingExclusiveMemory \
         InTreePluginPortworxUnregister KubeletInUserNamespace LoggingAlphaOptions MemoryQoS \
         MutablePVNodeAffinity MutablePodResourcesForSuspendedJobs \
         MutableSchedulingDirectivesForSuspendedJobs NativeHistograms NodeDeclaredFeatures \
         PodAndContainerStatsFromCRI PodLogsQuerySplitStreams QOSReserved \
         ReduceDefaultCrashLoopBackOffDecay RelaxedServiceNameValidation ResourceHealthStatus \
         RestartAllContainersOnContainerExits RuntimeClassInImageCriApi StorageCapacityScoring \
         StorageVersionAPI StrictIPCIDRValidation TaintTolerationComparisonOperators \
         TopologyManagerPolicyAlphaOptions UserNamespacesHostNetworkSupport VolumeLimitScaling \
         WindowsCPUAndMemoryAffinity",
    ),
    (
        Stage::Beta,
        true,
        false,
        "APIResponseCompression APIServerIdentity AllowParsingUserUIDFromCertAuth AtomicFIFO \
         AuthorizePodWebsocketUpgradeCreatePermission CPUManagerPolicyBetaOptions \
         CSIServiceAccountTokenSecrets ClearingNominatedNodeNameAfterBinding ComponentFlagz \
         ComponentStatusz ContainerCheckpoint ContainerRestartRules ContextualLogging DRAAdminAccess \
         DRAPrioritizedList DRAResourceClaimDeviceStatus DRASchedulerFilterTimeout DeclarativeValidation \
         DeploymentReplicaSetTerminatingReplicas DetectCacheInconsistency \
         DisableCPUQuotaWithExclusiveCPUs EnvFiles ExternalServiceAccountTokenSigner \
         GracefulNodeShutdown GracefulNodeShutdownBasedOnPodPriority HPAConfigurableTolerance \
         HostnameOverride ImageVolume InOrderInformers InOrderInformersBatchProcess \
         KubeletCrashLoopBackOffMax KubeletEnsureSecretPulledImages KubeletFineGrainedAuthz KubeletPSI \
         KubeletPodResourcesDynamicResources KubeletPodResourcesGet KubeletSeparateDiskGC \
         KubeletServiceAccountTokenForCredentialProviders ListFromCacheSnapshot LoggingBetaOptions \
         MatchLabelKeysInPodTopologySpread MatchLabelKeysInPodTopologySpreadSelectorMerge \
         MaxUnavailableStatefulSet MutableCSINodeAllocatableCount NominatedNodeNameForExpectation \
         OpenAPIEnums OpportunisticBatching PodDeletionCost PodLevelResources \
         PodReadyToStartContainersCondition PodTopologyLabelsAdmission PortForwardWebsockets \
         PreventStaticPodAPIReferences ProcMountType ReloadKubeletServerCertificateFile \
         RemoteRequestHeaderUID RotateKubeletServerCertificate SELinuxChangePolicy \
         SELinuxMountReadWriteOncePod SchedulerAsyncPreemption SchedulerPopFromBackoffQ \
         ServiceAccountNodeAudienceRestriction SizeBasedListCostEstimate \
         StaleControllerConsistencyDaemonSet StaleControllerConsistencyJob \
         StaleControllerConsistencyReplicaSet StaleControllerConsistencyStatefulSet \
         StatefulSetSemanticRevisionComparison StorageVersionHash \
         StructuredAuthenticationConfigurationEgressSelector \
         StructuredAuthenticationConfigurationJWKSMetrics TokenRequestServiceAccountUIDValidation \
         TopologyManagerPolicyBetaOptions TranslateStreamCloseWebsocketRequests \
         UnauthenticatedHTTP2DOSMitigation UserNamespacesSupport WatchList WatchListClient \
         WindowsGracefulNodeShutdown",
    ),
    (
        Stage::Beta,
        false,
        false,
        "CRDObservedGenerationTracking ClusterTrustBundle ClusterTrustBundleProjection \
         ConcurrentWatchObjectDecode CoordinatedLeaderElection DeclarativeValidationTakeover \
         LocalStorageCapacityIsolationFSQuotaMonitoring MutatingAdmissionPolicy NodeLogQuery \
         PodCertificateRequest SELinuxMount SchedulerAsyncAPICalls StorageVersionMigrator \
         UnknownVersionInteroperabilityProxy WatchCacheInitializationPostStartHook",
    ),
    (
        Stage::Stable,
        true,
        true,
        "APIServerTracing AnonymousAuthConfigurableEndpoints AnyVolumeDataSource \
         AuthorizeNodeWithSelectors AuthorizeWithSelectors BtreeWatchCache CPUManagerPolicyOptions \
         CRDValidationRatcheting CSIMigrationPortworx ComponentSLIs ConsistentListFromCache \
         CronJobsScheduledAnnotation CustomResourceFieldSelectors DevicePluginCDIDevices \
         DisableAllocatorDualWrite DynamicResourceAllocation ExecProbeTimeout HonorPVReclaimPolicy \
         ImageMaximumGCAge InPlacePodVerticalScaling JobBackoffLimitPerIndex JobManagedBy \
         JobPodReplacementPolicy JobSuccessPolicy KubeletCgroupDriverFromCRI KubeletTracing \
         LogarithmicScaleDown MatchLabelKeysInPodAffinity MemoryManager MultiCIDRServiceAllocator \
         NFTablesProxyMode NodeInclusionPolicyInPodTopologySpread NodeSwap OrderedNamespaceDeletion \
         PodLifecycleSleepAction PodLifecycleSleepActionAllowZero PodObservedGenerationTracking \
         PodSchedulingReadiness PreferSameTrafficDistribution RecoverVolumeExpansionFailure \
         RecursiveReadOnlyMounts RelaxedDNSSearchValidation RelaxedEnvironmentVariableValidation \
         ResilientWatchCacheInitialization RetryGenerateName SchedulerQueueingHints \
         SeparateTaintEvictionController ServiceAccountTokenJTI ServiceAccountTokenNodeBinding \
         ServiceAccountTokenNodeBindingValidation ServiceAccountTokenPodNodeInfo \
         ServiceTrafficDistribution SidecarContainers StreamingCollectionEncodingToJSON \
         StreamingCollectionEncodingToProtobuf StructuredAuthenticationConfiguration \
         StructuredAuthorizationConfiguration SupplementalGroupsPolicy SystemdWatchdog \
         TopologyAwareHints VolumeAttributesClass WinDSR WinOverlay",
    ),
    (
        Stage::Stable,
        true,
        false,
        "AllowServiceExternalIPs InformerResourceVersion TopologyManagerPolicyOptions",
    ),
    (
        Stage::Deprecated,
        true,
        false,
        "AggregatedDiscoveryRemoveBetaType DisableNodeKubeProxyVersion \
         KubeletPodResourcesListUseActivePods SeparateCacheWatchRPC StorageNamespaceIndex",
    ),
    (
        Stage::Deprecated,
        false,
        false,
        "AllowDNSOnlyNodeCSR AllowInsecureKubeletCertificateSigningRequests \
         AllowOverwriteTerminationGracePeriodSeconds ChangeContainerStatusOnKubeletRestart \
         GitRepoVolumeDriver InPlacePodVerticalScalingAllocatedStatus KMSv1 \
         KubeletRegistrationGetOnExistsOnly WindowsHostNetwork",
    ),
    (Stage::Deprecated, false, true, "AllowServiceLBStatusOnNonLB WatchFromStorageWithoutResourceVersion"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &[(&str, bool)]) -> Result<FeatureGates, FeatureGateError> {
        FeatureGates::new(&text.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect())
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = registry().map(|gate| gate.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn defaults_hold_until_set() {
        let defaults = FeatureGates::default();
        assert!(defaults.enabled("AllowServiceExternalIPs"));
        assert!(!defaults.enabled("LoggingAlphaOptions"));
        assert!(!gates(&[("AllowServiceExternalIPs", false)]).unwrap().enabled("AllowServiceExternalIPs"));
    }

    #[test]
    fn unknown_and_locked_gates_are_refused() {
        let unknown = gates(&[("Nonsense", true)]).unwrap_err();
        assert_eq!(unknown.to_string(), "unrecognized feature gate: Nonsense");
        let locked = gates(&[("NFTablesProxyMode", false)]).unwrap_err();
        assert_eq!(
            locked.to_string(),
            "cannot set feature gate NFTablesProxyMode to false, feature is locked to true"
        );
        assert!(gates(&[("NFTablesProxyMode", true)]).is_ok());
    }

    #[test]
    fn stage_switches_leave_explicit_and_locked_gates_alone() {
        let set = gates(&[("AllAlpha", true), ("AllBeta", false), ("ComponentFlagz", true)]).unwrap();
        assert!(set.enabled("LoggingAlphaOptions"));
        assert!(!set.enabled("ComponentStatusz"));
        assert!(set.enabled("ComponentFlagz"));
        assert!(set.enabled("WinDSR"));
    }

    #[test]
    fn settled_gates_are_warned_about() {
        let set = gates(&[("AllowServiceExternalIPs", false), ("WatchListClient", true)]).unwrap();
        assert_eq!(
            set.warnings(),
            [
                "Setting GA feature gate AllowServiceExternalIPs=false. It will be removed in a future release."
            ]
        );
    }
}
