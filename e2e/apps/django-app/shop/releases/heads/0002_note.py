from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0001_orders")]
    operations = [
        migrations.AddField("Order", "note", models.TextField(null=True)),
        AddIndexConcurrently("Order", models.Index(fields=["customer"], name="orders_customer")),
    ]
