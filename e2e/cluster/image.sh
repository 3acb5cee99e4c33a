#!/usr/bin/env bash
# image.sh operator|app|postgres|projects|redis|celery [NAME [TAG]]: builds an image and imports it into the cluster NAME (default molt).
#   operator  molt.local/molt:dev    from Dockerfile and ${MOLT_BINARY:-target/release/molt}
#   app       molt.local/sample:dev  from e2e/apps/sample
#   postgres  molt.local/postgres:dev, Debian's
#   projects  molt.local/projects:dev, the sample beside e2e/apps/alembic-app and e2e/apps/django-app
#   redis     molt.local/redis:dev, Debian's
#   celery    molt.local/celery:dev from e2e/apps/celery-app
# With TAG it is there under that name too, so that two builds can be told apart.
# Nothing is built or imported again while its inputs are the same.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
what=${1:-}
[[ $what =~ ^(operator|app|postgres|projects|redis|celery)$ ]] || fail "usage: image.sh operator|app|postgres|projects|redis|celery [NAME [TAG]]"
cluster_vars "${2:-molt}"
need_root
node_pid >/dev/null || fail "the cluster '$CLUSTER' is not running" "e2e/cluster/up.sh $CLUSTER"
mkdir -p "$MOLT_IMAGES"
# One build at a time: two clusters share the cache.
exec 9>"$MOLT_IMAGES/.$what.lock"
flock 9

"$MOLT_CLUSTER_DIR/images/$what.sh" 9>&-
archive=$MOLT_IMAGES/$what.tar
"$MOLT_CLUSTER_DIR/images/import.sh" "$archive"
tag=$(cat "$archive.tag")
if [ -n "${3:-}" ] && [ "$3" != "$tag" ]; then
  ctr_ images tag --force "$tag" "$3" >/dev/null
  tag=$3
fi
say "$tag: $(awk -v b="$(stat -c %s "$archive")" 'BEGIN { printf "%.1f", b / 1048576 }') MiB in cluster '$CLUSTER'"
