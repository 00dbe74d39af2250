// Package schema holds the files of deploy to the schemas of those who read them: Kubernetes' own types, Compose's own
// loader, Grafana's own types. It is a module of its own, since what it needs nothing else does.
package schema

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// TestKubernetes: every field is one that there is, of its type, and what the manifests are for is there.
func TestKubernetes(t *testing.T) {
	b, err := os.ReadFile("../kubernetes/timedge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]corev1.Service{}
	var set appsv1.StatefulSet
	var budget policyv1.PodDisruptionBudget
	r := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(b)))
	for {
		doc := make([]byte, 1<<20)
		n, err := r.Read(doc)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		doc = doc[:n]
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		var into any
		var service corev1.Service
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 Service":
			into = &service
		case "apps/v1 StatefulSet":
			into = &set
		case "policy/v1 PodDisruptionBudget":
			into = &budget
		default:
			t.Fatalf("%+v: this test does not know of it", kind)
		}
		text, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			t.Fatal(err)
		}
		strict, err := json.UnmarshalStrict(text, into) // which minds upper and lower case, as the API server does
		if err != nil || len(strict) > 0 {
			t.Errorf("%s: %v %v", kind.Kind, err, strict)
		}
		if service.Name != "" {
			services[service.Name] = service
		}
	}
	pod := set.Spec.Template
	if s := services[set.Spec.ServiceName]; s.Spec.ClusterIP != corev1.ClusterIPNone || !s.Spec.PublishNotReadyAddresses {
		t.Errorf("the set's service %q is not headless, or hides nodes that are not ready", set.Spec.ServiceName)
	}
	for _, selects := range []map[string]string{
		set.Spec.Selector.MatchLabels, budget.Spec.Selector.MatchLabels, services["timedge-nodes"].Spec.Selector, services["timedge-clients"].Spec.Selector,
		pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	} {
		if len(selects) == 0 {
			t.Error("a selector selects everything")
		}
		for k, v := range selects {
			if pod.Labels[k] != v {
				t.Errorf("a selector wants %s=%s, the pods have %q", k, v, pod.Labels[k])
			}
		}
	}
	c := pod.Spec.Containers[0]
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.ReadinessProbe == nil || c.LivenessProbe == nil {
		t.Error("preStop or a probe is missing")
	}
	if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || pod.Spec.SecurityContext.RunAsNonRoot == nil {
		t.Error("the root file system may be written, or root may run")
	}
	mounted := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		mounted[v.Name] = v.Secret != nil
	}
	for _, m := range c.VolumeMounts {
		if !mounted[m.Name] {
			t.Errorf("%s is mounted from no secret", m.Name)
		}
	}
}

// TestCompose: Compose takes the file, and its nodes are as they should be.
func TestCompose(t *testing.T) {
	b, err := os.ReadFile("../docker/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: "../docker", ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: b}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("timedge", true) })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two", "three"} {
		s, ok := project.Services[name]
		if !ok || !s.ReadOnly || s.Environment["TIMEDGE_NODE"] == nil || *s.Environment["TIMEDGE_NODE"] != name || len(s.CapDrop) != 1 {
			t.Errorf("service %s is not there, or not as it should be: %+v", name, s)
		}
	}
	if s := project.Services["balancer"]; len(s.Ports) == 0 {
		t.Error("the balancer has no port")
	}
}

// TestGrafana: every field of the dashboard is one that Grafana has, of its type.
func TestGrafana(t *testing.T) {
	b, err := os.ReadFile("../grafana/timedge.json")
	if err != nil {
		t.Fatal(err)
	}
	known := cog.NewRuntime()
	known.RegisterPanelcfgVariant(timeseries.VariantConfig())
	known.RegisterPanelcfgVariant(stat.VariantConfig())
	known.RegisterDataqueryVariant(prometheus.VariantConfig())
	var d dashboard.Dashboard
	for _, err := range []error{d.UnmarshalJSONStrict(b), d.Validate()} {
		if err != nil && err.Error() != "" { // which an empty list of faults is, too
			t.Error(err)
		}
	}
	if len(d.Panels) < 10 {
		t.Errorf("%d panels: this test does not see them", len(d.Panels))
	}
}
