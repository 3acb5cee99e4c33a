from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_orders")]
    operations = [migrations.AddField("Order", "other", models.TextField(null=True))]
