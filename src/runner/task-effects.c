/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task whose property has no effect on this host runs all the same: hosts differ, and which of them a task
 * gets is often nobody's choice. But it is told. */
#include "runner/task-effects.h"

#include "base/text.h"
#include "core/task/property-effect.h"
#include "io/unit-cgroup.h"
#include "runner/runner.h"

/* NULL also when it cannot be told just now. */
static const char *complaint_about(const Task *task, const TaskProperty *property, const CgroupSetup *setup) {
        const PropertyPlace *place = property_place(property->name);
        if (!place)
                return property_complaint(property, setup, NULL);
        _cleanup_(text_done) Text content = {};
        int r = unit_cgroup_read(
                        TASK_SLICE,
                        task->unit,
                        place->controller,
                        setup->is_unified ? place->unified : place->legacy,
                        PROPERTY_FILES_MAX,
                        &content);
        return r < 0 ? NULL : property_complaint(property, setup, r > 0 ? content.data : NULL);
}

void task_note_effects(Task *task) {
        const TaskProperties *properties = task->spec->parsed_properties;
        if (!properties)
                return;
        CgroupSetup setup = {
                .is_unified = unit_cgroup_is_unified(),
                .has_v2 = unit_cgroup_has_v2(),
                .is_users = task->runner->daemon.user_mode,
        };
        _cleanup_(text_done) Text list = {};
        for (size_t i = 0; i < properties->n_items; i++) {
                const TaskProperty *property = &properties->items[i];
                const char *complaint = complaint_about(task, property, &setup);
                if (complaint &&
                    text_appendf(&list, "%s%s (%s)", list.size > 0 ? ", " : "", property->name, complaint) <
                                    0)
                        return;
        }
        if (list.size > 0)
                task_note(task, "without effect on this host: %s", list.data);
}
