/* proto/protocol.h - the version of what longspan.proto and the frames behind it mean.
 *
 * Raised by every change that an older program would misread; peers of another version refuse
 * each other by name when they join. */
#ifndef LONGSPAN_PROTO_PROTOCOL_H
#define LONGSPAN_PROTO_PROTOCOL_H

enum { PROTOCOL_VERSION = 2 };

#define LONGSPAN_VERSION "0.1.0"

#endif
