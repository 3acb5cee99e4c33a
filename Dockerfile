# The operator's image: one binary on a base with glibc and the CA certificates, nothing else.
# The build context holds the binary as `molt`.
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot
FROM ${BASE_IMAGE}
COPY molt /usr/local/bin/molt
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/molt"]
CMD ["controller"]
