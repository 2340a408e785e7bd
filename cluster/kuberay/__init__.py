"""Studies on Kubernetes: profiles of kind `kuberay`, the manifests made of them, and the operator's rules."""
